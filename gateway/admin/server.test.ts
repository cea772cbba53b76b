import assert from "node:assert/strict";
import { test } from "node:test";
import { WarmpathError } from "#core/errors.ts";
import type { Model } from "#core/model.ts";
import { silentLog } from "#platform/log.ts";
import { listRoutes } from "./routes/list.ts";
import { createAdmin } from "./server.ts";
import type { GatewayState } from "./state.ts";

function openAdmin(): { app: ReturnType<typeof createAdmin>; models: Map<string, Model> } {
  const models = new Map<string, Model>();
  const state: GatewayState = {
    isReady: () => true,
    stats: () => Promise.reject(new Error("not asked for here")),
    pods: () => [],
    list: (after, limit) => {
      const names = [...models.keys()].toSorted().filter((name) => after === undefined || name > after);
      return Promise.resolve({ models: names.slice(0, limit), next: names.length > limit ? names[limit - 1] : undefined });
    },
    describe: (name) => models.get(name),
    register(model) {
      const known = models.get(model.name);
      if (known !== undefined) return Promise.resolve({ kind: known.active === model.active ? "same" : "exists" });
      models.set(model.name, model);
      return Promise.resolve({ kind: "created" });
    },
    unregister(name) {
      models.delete(name);
      return Promise.resolve();
    },
    load: () => Promise.resolve({ kind: "failed", code: "no-pods", reason: "none" }),
    registry: () => ({ models: models.size, missing: 2 }),
    restoreRegistry: () => Promise.reject(new WarmpathError("registry-unavailable", "the registry does not answer")),
  };
  return { app: createAdmin({ routes: listRoutes(state), log: silentLog }), models };
}

const spec = { format: "onnx", storageUri: "file:///a.onnx" };

test("a model is registered once; the same again is no mistake, another content is", async () => {
  const { app } = openAdmin();
  const put = async (payload: object): Promise<number> =>
    (await app.inject({ method: "PUT", url: "/api/v1/models/a", payload })).statusCode;
  assert.deepEqual([await put(spec), await put(spec), await put({ ...spec, storageUri: "file:///b.onnx" })], [201, 200, 409]);
});

test("other content is another revision, so that no old copy is ever taken for it", async () => {
  const { app, models } = openAdmin();
  await app.inject({ method: "PUT", url: "/api/v1/models/a", payload: spec });
  const first = models.get("a")?.active;
  await app.inject({ method: "DELETE", url: "/api/v1/models/a" });
  await app.inject({ method: "PUT", url: "/api/v1/models/a", payload: { ...spec, storageUri: "file:///b.onnx" } });
  assert.notEqual(models.get("a")?.active, first);
});

const refusals: [
  what: string,
  request: { method: "GET" | "PUT" | "POST"; url: string; payload?: string; headers?: Record<string, string> },
  status: number,
][] = [
  [
    "a malformed body",
    { method: "PUT", url: "/api/v1/models/a", payload: "{", headers: { "content-type": "application/json" } },
    400,
  ],
  [
    "a body of another type",
    { method: "PUT", url: "/api/v1/models/a", payload: "x", headers: { "content-type": "text/plain" } },
    400,
  ],
  [
    "no storageUri",
    { method: "PUT", url: "/api/v1/models/a", payload: '{"format":"onnx"}', headers: { "content-type": "application/json" } },
    400,
  ],
  [
    "a bad name",
    { method: "PUT", url: "/api/v1/models/a%2Fb", payload: "{}", headers: { "content-type": "application/json" } },
    400,
  ],
  ["an unknown model", { method: "GET", url: "/api/v1/models/nope" }, 404],
  ["an unknown path", { method: "GET", url: "/api/v2" }, 404],
  ["a page too long", { method: "GET", url: "/api/v1/models?limit=5000" }, 400],
  ["a load without pods", { method: "POST", url: "/api/v1/models/a/load" }, 503],
  [
    "a call from another site",
    { method: "POST", url: "/api/v1/models/a/load", headers: { origin: "http://evil.example", host: "127.0.0.1:8080" } },
    403,
  ],
];

refusals.push([
  "a call by a name that leads here",
  { method: "POST", url: "/api/v1/models/a/load", headers: { origin: "http://evil.example:8080", host: "evil.example:8080" } },
  403,
]);

for (const [what, request, status] of refusals) {
  test(`${what} is refused with ${status} and a reason`, async () => {
    const { app } = openAdmin();
    const answer = await app.inject(request);
    assert.equal(answer.statusCode, status, answer.body);
    const { error, code } = answer.json<{ error: string; code: string }>();
    assert.ok(error.length > 0 && code.length > 0);
  });
}

test("models are listed in pages", async () => {
  const { app } = openAdmin();
  for (const name of ["a", "b", "c"]) await app.inject({ method: "PUT", url: `/api/v1/models/${name}`, payload: spec });
  const first = (await app.inject({ url: "/api/v1/models?limit=2" })).json<{ models: string[]; next: string }>();
  assert.deepEqual(first, { models: ["a", "b"], next: "b" });
  const second = (await app.inject({ url: `/api/v1/models?limit=2&after=${first.next}` })).json<{ models: string[] }>();
  assert.deepEqual(second.models, ["c"]);
});

test("a page of this server's own may call it", async () => {
  const { app } = openAdmin();
  for (const host of ["127.0.0.1:8080", "[::1]:8080", "localhost:8080"]) {
    const answer = await app.inject({ method: "DELETE", url: "/api/v1/models/a", headers: { origin: `http://${host}`, host } });
    assert.equal(answer.statusCode, 200, host);
  }
});

test("the description is a valid list of every route", async () => {
  const { app } = openAdmin();
  const answer = await app.inject({ url: "/api/v1/openapi.json" });
  assert.equal(answer.statusCode, 200, answer.body);
  const { openapi, paths } = answer.json<{ openapi: string; paths: Record<string, Record<string, unknown>> }>();
  assert.equal(openapi, "3.1.0");
  assert.deepEqual(Object.keys(paths["/api/v1/models/{name}"] ?? {}).toSorted(), ["delete", "get", "put"]);
});

test("an unknown field is refused by its name", async () => {
  const { app } = openAdmin();
  const answer = await app.inject({ method: "PUT", url: "/api/v1/models/a", payload: { ...spec, sizehint: 1 } });
  assert.equal(answer.statusCode, 400);
  assert.match(answer.json<{ error: string }>().error, /unknown field "sizehint"/);
  const query = await app.inject({ url: "/api/v1/models?page=2" });
  assert.match(query.json<{ error: string }>().error, /unknown field "page"/);
});

test("a registry that is away is told by its code, not as a fault of the gateway", async () => {
  const { app } = openAdmin();
  const answer = await app.inject({ method: "POST", url: "/api/v1/registry/restore" });
  assert.equal(answer.statusCode, 503);
  assert.deepEqual(answer.json(), { error: "the registry does not answer", code: "registry-unavailable" });
  assert.deepEqual((await app.inject({ url: "/api/v1/registry" })).json(), { models: 0, missing: 2 });
});
