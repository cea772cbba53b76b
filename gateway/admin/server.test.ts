import assert from "node:assert/strict";
import { test } from "node:test";
import { WarmpathError } from "#core/errors.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import { toAnswer, withExpectation } from "./routes/models.ts";
import { registryRoutes } from "./routes/registry.ts";
import { createAdmin } from "./server.ts";
import { type AdminBench, openAdminBench } from "./testing.ts";

const spec = { format: "onnx", storageUri: "file:///a.onnx" };

type Method = "GET" | "PUT" | "POST" | "PATCH" | "DELETE";

interface Told {
  readonly status: number;
  readonly etag: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- what tests read is what they assert
  readonly body: Record<string, any>;
}

async function call({ app }: AdminBench, method: Method, path: string, payload?: object, headers = {}): Promise<Told> {
  const answer = await app.inject({
    method,
    url: `/api/v1/${path}`,
    headers,
    ...(payload === undefined ? {} : { payload }),
  });
  return { status: answer.statusCode, etag: String(answer.headers["etag"]), body: answer.json() };
}

test("a model is registered once; the same again is no mistake, another content is", async () => {
  await using bench = await openAdminBench();
  const put = async (payload: object): Promise<number> => (await call(bench, "PUT", "models/a", payload)).status;
  assert.deepEqual([await put(spec), await put(spec), await put({ ...spec, storageUri: "file:///b.onnx" })], [201, 200, 409]);
});

for (const [method, url, status, error, allow] of [
  ["DELETE", "/api/v1/models", 405, "DELETE is not allowed here; use GET or HEAD", "GET, HEAD"],
  ["POST", "/api/v1/models/a?x=1", 405, "POST is not allowed here; use DELETE or GET or HEAD or PATCH or PUT", /^DELETE, GET/],
  ["GET", "/api/v1/models/a/promote", 405, "GET is not allowed here; use POST", "POST"],
  ["GET", "/api/v1/nothing", 404, "nothing is at /api/v1/nothing", undefined],
] as const) {
  test(`${method} ${url} is ${status}, and the answer says what is allowed`, async () => {
    await using bench = await openAdminBench();
    const answer = await bench.app.inject({ method, url });
    const code = status === 405 ? "method-not-allowed" : "unsupported-method";
    assert.deepEqual([answer.statusCode, answer.json()], [status, { error, code }]);
    if (allow === undefined) assert.equal(answer.headers["allow"], undefined);
    else assert.match(String(answer.headers["allow"]), allow instanceof RegExp ? allow : new RegExp(`^${allow}$`));
  });
}

for (const [type, payload, status, error] of [
  ["application/json", "{", 400, "the body is not JSON"],
  ["application/json", "[]", 400, "the body must be a JSON object, with content-type application/json"],
  ["text/plain", "abc", 400, "the body must be a JSON object, with content-type application/json"],
  ["application/xml", "<a/>", 415, "the body must be JSON, with content-type application/json"],
  ["application/json", JSON.stringify("a".repeat(300_000)), 413, "the body is larger than 262144 bytes"],
] as const) {
  test(`a body of ${type} that begins with ${payload.slice(0, 3)} is ${status}: ${error}`, async () => {
    await using bench = await openAdminBench();
    const headers = { "content-type": type };
    const answer = await bench.app.inject({ method: "PUT", url: "/api/v1/models/a", headers, payload });
    assert.deepEqual([answer.statusCode, answer.json().error], [status, error]);
  });
}

test("a registration is known at once, with every field that was given", async () => {
  await using bench = await openAdminBench();
  const everything = {
    ...spec,
    formatVersion: "1",
    runtime: "onnx",
    storageKey: "main",
    storageParameters: { bucket: "b" },
    schemaPath: "schema.json",
    requiredLabels: { gpu: "yes" },
    preferredLabels: { zone: "a" },
    sizeHintBytes: 4_096,
    minCopies: 1,
    maxCopies: 3,
    pinned: true,
    priority: "high",
    tenant: "team",
    labels: { app: "x" },
  };
  assert.equal((await call(bench, "PUT", "models/a", everything)).status, 201);
  const { body } = await call(bench, "GET", "models/a");
  assert.deepEqual({ ...body, ...body["revisions"][0] }, { ...body, ...body["revisions"][0], ...everything });
  assert.equal((await call(bench, "PUT", "models/a", everything)).status, 200);
  assert.equal((await call(bench, "PUT", "models/a", { ...everything, minCopies: 2 })).status, 409);
});

test("other content is another revision, so that no old copy is ever taken for it", async () => {
  await using bench = await openAdminBench();
  const first = (await call(bench, "PUT", "models/a", spec)).body["active"];
  await call(bench, "DELETE", "models/a");
  assert.equal((await call(bench, "GET", "models/a")).status, 404);
  const second = (await call(bench, "PUT", "models/a", { ...spec, storageUri: "file:///b.onnx" })).body["active"];
  assert.notEqual(first, second);
});

test("a whole record can be registered, and slots are given to those that have none", async () => {
  await using bench = await openAdminBench();
  const record = {
    revisions: [
      { id: "one", ...spec },
      { id: "two", format: "onnx", storageUri: "file:///never.onnx" },
    ],
    active: "one",
    target: "two",
    loadNow: true,
  };
  assert.equal((await call(bench, "PUT", "models/a", record)).status, 201);
  const { body } = await call(bench, "GET", "models/a");
  assert.deepEqual([body["active"], body["target"], body["transition"]], ["one", "two", "InProgress"]);
  assert.deepEqual(
    body["revisions"].map(({ slot }: { slot: number }) => slot),
    [0, 1],
  );
});

test("with If-Match only what was seen is changed", async () => {
  await using bench = await openAdminBench();
  const { etag } = await call(bench, "PUT", "models/a", spec);
  const changed = await call(bench, "PATCH", "models/a", { minCopies: 1 }, { "if-match": etag });
  assert.equal(changed.status, 200);
  const late = await call(bench, "PATCH", "models/a", { minCopies: 2 }, { "if-match": etag });
  assert.deepEqual([late.status, late.body["code"]], [412, "conflict"]);
  assert.equal((await call(bench, "DELETE", "models/a", undefined, { "if-match": etag })).status, 412);
  assert.equal((await call(bench, "PUT", "models/a", spec, { "if-none-match": "*" })).status, 412);
  assert.equal((await call(bench, "DELETE", "models/a", undefined, { "if-match": changed.etag })).status, 200);
});

test("a conflict with something else than what was expected is none of the expectation's", async () => {
  const conflict = { kind: "refused", code: "conflict", reason: "copies are still being dropped" } as const;
  const statusOf = async (outcome: Parameters<typeof toAnswer>[0]): Promise<number> =>
    (await withExpectation({ header: (name) => (name === "if-match" ? '"e"' : undefined) }, async () => toAnswer(outcome)))
      .status;
  assert.equal(await statusOf(conflict), 409);
  assert.equal(await statusOf({ ...conflict, isUnexpected: true }), 412);
});

const unsaid: readonly (readonly [method: Method, path: string, says: RegExp])[] = [
  ["PUT", "models/a", /^the body is missing: it is a JSON object/],
  ["PUT", "models/known/split", /^the body is missing/],
  ["POST", "models/known/revisions", /^the body is missing/],
];

for (const [method, path, says] of unsaid) {
  test(`${method} ${path} without a body is told that it is missing`, async () => {
    await using bench = await openAdminBench();
    await call(bench, "PUT", "models/known", spec);
    const { status, body } = await call(bench, method, path);
    assert.equal(status, 400);
    assert.match(`${body["error"]}`, says);
  });
}

test("what a body lacks is named", async () => {
  await using bench = await openAdminBench();
  const saidOf = async (path: string, given: object): Promise<unknown> => (await call(bench, "PUT", path, given)).body["error"];
  assert.equal(await saidOf("models/a", {}), "the body is empty: a model has format and storageUri, or revisions");
  assert.equal(await saidOf("models/a", { storageUri: "file:///a" }), "format is missing");
  assert.equal(await saidOf("models/a", { format: "onnx" }), "storageUri is missing");
  assert.equal(
    await saidOf("models/a", { revisions: [{ id: "r" }] }),
    "revisions.0.format is missing; revisions.0.storageUri is missing",
  );
});

test("a setting is taken away by null", async () => {
  await using bench = await openAdminBench();
  await call(bench, "PUT", "models/a", { ...spec, minCopies: 1, tenant: "t" });
  await call(bench, "PATCH", "models/a", { minCopies: null });
  const { body } = await call(bench, "GET", "models/a");
  assert.deepEqual([body["minCopies"], body["tenant"]], [undefined, "t"]);
  assert.equal((await call(bench, "PATCH", "models/a", { minCopies: 5, maxCopies: 2 })).status, 400);
});

const json = { "content-type": "application/json" };

const refusals: [
  what: string,
  request: { method: Method; url: string; payload?: string; headers?: Record<string, string> },
  status: number,
][] = [
  ["a malformed body", { method: "PUT", url: "/api/v1/models/a", payload: "{", headers: json }, 400],
  [
    "a body of another type",
    { method: "PUT", url: "/api/v1/models/a", payload: "x", headers: { "content-type": "text/plain" } },
    400,
  ],
  ["no storageUri", { method: "PUT", url: "/api/v1/models/a", payload: '{"format":"onnx"}', headers: json }, 400],
  ["a body that is no object", { method: "PUT", url: "/api/v1/models/a", payload: "[]", headers: json }, 400],
  ["null as a body", { method: "PUT", url: "/api/v1/models/a", payload: "null", headers: json }, 400],
  ["a bad name", { method: "PUT", url: "/api/v1/models/a%2Fb", payload: "{}", headers: json }, 400],
  ["a bad etag", { method: "DELETE", url: "/api/v1/models/a", headers: { "if-match": "a, b" } }, 400],
  ["an unknown model", { method: "GET", url: "/api/v1/models/nope" }, 404],
  ["an explanation of an unknown model", { method: "GET", url: "/api/v1/models/nope/explain" }, 404],
  ["an unknown path", { method: "GET", url: "/api/v2" }, 404],
  ["an unknown pod", { method: "GET", url: "/api/v1/pods/nope" }, 404],
  ["a drain of an unknown pod", { method: "POST", url: "/api/v1/pods/nope/drain" }, 404],
  ["a page too long", { method: "GET", url: "/api/v1/models?limit=5000" }, 400],
  ["an unknown state", { method: "GET", url: "/api/v1/models?state=warm" }, 400],
  ["a load without pods", { method: "POST", url: "/api/v1/models/known/load" }, 503],
  [
    "more copies than it may have",
    { method: "POST", url: "/api/v1/models/known/load", payload: '{"copies":3}', headers: json },
    400,
  ],
  ["a rollback to nothing", { method: "POST", url: "/api/v1/models/known/rollback" }, 404],
  ["a promotion of nothing", { method: "POST", url: "/api/v1/models/known/promote" }, 400],
  [
    "a split to what is not there",
    {
      method: "PUT",
      url: "/api/v1/models/known/split",
      payload: '{"split":[{"revision":"x","percent":5}]}',
      headers: json,
    },
    404,
  ],
  [
    "a call from another site",
    { method: "POST", url: "/api/v1/models/a/load", headers: { origin: "http://evil.example", host: "127.0.0.1:8080" } },
    403,
  ],
  [
    "a call by a name that leads here",
    {
      method: "POST",
      url: "/api/v1/models/a/load",
      headers: { origin: "http://evil.example:8080", host: "evil.example:8080" },
    },
    403,
  ],
  [
    "a page that reads by a name that leads here",
    { method: "GET", url: "/api/v1/models", headers: { host: "evil.example:8080" } },
    403,
  ],
];

for (const [what, request, status] of refusals) {
  test(`${what} is refused with ${status} and a reason`, async () => {
    await using bench = await openAdminBench();
    await call(bench, "PUT", "models/known", { ...spec, maxCopies: 2 });
    const answer = await bench.app.inject(request);
    assert.equal(answer.statusCode, status, answer.body);
    const { error, code } = answer.json<{ error: string; code: string }>();
    assert.ok(error.length > 0 && code.length > 0);
  });
}

test("a server for this machine alone is called by address, or by the name that is this machine's everywhere", async () => {
  await using bench = await openAdminBench();
  for (const host of ["localhost", "localhost:8080", "a.localhost:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.1"])
    assert.equal((await bench.app.inject({ url: "/api/v1/models", headers: { host } })).statusCode, 200, host);
  for (const host of ["localhost.evil.example", "evil.example", "gateway", "127.0.0.1.evil.example", "[::1].evil.example"])
    assert.equal((await bench.app.inject({ url: "/api/v1/models", headers: { host } })).statusCode, 403, host);
});

test("models are listed in pages", async () => {
  await using bench = await openAdminBench();
  for (const name of ["a", "b", "c"]) await call(bench, "PUT", `models/${name}`, spec);
  const first = (await call(bench, "GET", "models?limit=2")).body;
  assert.deepEqual([first["models"], first["next"]], [["a", "b"], "b"]);
  const second = (await call(bench, "GET", `models?limit=2&after=${first["next"]}`)).body;
  assert.deepEqual([second["models"], second["next"]], [["c"], undefined]);
});

test("a list is filtered by label, tenant and state, and pages through what does not match", async () => {
  await using bench = await openAdminBench({ pods: 1 });
  for (let at = 0; at < 12; at++)
    await call(bench, "PUT", `models/m${10 + at}`, {
      ...spec,
      labels: { half: at % 2 === 0 ? "yes" : "no" },
      tenant: `t${at % 3}`,
    });
  const named = async (query: string): Promise<string[]> => {
    const names: string[] = [];
    for (let next: string | undefined = ""; next !== undefined; ) {
      const { body } = await call(bench, "GET", `models?limit=2&${query}${next === "" ? "" : `&after=${next}`}`);
      names.push(...body["models"]);
      next = body["next"];
    }
    return names;
  };
  assert.deepEqual(await named("label=half=yes&tenant=t0"), ["m10", "m16"]);
  assert.equal((await named("label=half")).length, 12);
  assert.deepEqual(await named("label=half=yes&label=other"), []);
  assert.equal((await call(bench, "POST", "models/m13/load", {})).status, 200);
  assert.deepEqual(await named("state=ready"), ["m13"]);
  const { body } = await call(bench, "GET", "models?state=ready&details=true");
  assert.equal(body["models"][0].copies[0].pod, "pod-0");
});

test("so many copies are loaded as are asked for, with or without waiting", async () => {
  await using bench = await openAdminBench({ pods: 3 });
  await call(bench, "PUT", "models/a", spec);
  const { status, body } = await call(bench, "POST", "models/a/load", { copies: 2 });
  assert.deepEqual([status, body["ready"]], [200, 2]);
  assert.equal((await call(bench, "POST", "models/a/load", { copies: 3, wait: false })).status, 200);
  await waitFor(async () => (await call(bench, "GET", "models/a")).body["copyCounts"].ready === 3);
});

test("a load that fails says why, and the model says so with its time", async () => {
  await using bench = await openAdminBench({ pods: 1 });
  await call(bench, "PUT", "models/a", { ...spec, storageUri: "file:///bad.onnx" });
  const { status, body } = await call(bench, "POST", "models/a/load", {});
  assert.deepEqual([status, body["code"]], [424, "model-load-failed"]);
  const model = (await call(bench, "GET", "models/a")).body;
  assert.equal(model["state"], "failed");
  const [{ failure }] = model["revisionStates"];
  assert.deepEqual([failure.code, failure.kind, failure.reason], ["model-load-failed", "model", "the artefact is bad"]);
  assert.ok(failure.atMs > 0 && failure.retryAfterMs > 0);
  const { lines } = (await call(bench, "GET", "models/a/explain")).body;
  assert.match(lines.join("\n"), /could not be loaded[\s\S]*the artefact is bad/);
});

test("an explanation says where a copy would go, and why not elsewhere", async () => {
  await using bench = await openAdminBench({ pods: 2 });
  await call(bench, "PUT", "models/a", { ...spec, requiredLabels: { gpu: "yes" } });
  const { body } = await call(bench, "GET", "models/a/explain");
  assert.equal(body["placement"].code, "no-runtime");
  assert.match(body["lines"].join("\n"), /No pod would take a copy[\s\S]*pod-0: .*gpu/);
});

test("the history tells registration, load and change, the newest last", async () => {
  await using bench = await openAdminBench({ pods: 1 });
  await call(bench, "PUT", "models/a", spec);
  await call(bench, "POST", "models/a/load", {});
  await call(bench, "PATCH", "models/a", { minCopies: 1 });
  const { events } = (await call(bench, "GET", "models/a/history")).body;
  assert.deepEqual(
    events.map(({ what }: { what: string }) => what),
    ["registered", "loading", "ready", "changed"],
  );
});

test("a watch tells every change, and goes on where an earlier one ended", async () => {
  await using bench = await openAdminBench();
  const address = await bench.app.listen({ host: "127.0.0.1", port: 0 });
  const { revision } = (await call(bench, "GET", "models")).body;
  await call(bench, "PUT", "models/a", spec);
  await call(bench, "PUT", "models/b", spec);
  await call(bench, "DELETE", "models/a");
  const read = async (headers: Record<string, string>, query: string, count: number): Promise<string[]> => {
    const answer = await fetch(`${address}/api/v1/watch${query}`, { headers });
    const reader = answer.body!.getReader();
    let text = "";
    for (;;) {
      const { value } = await reader.read();
      text += Buffer.from(value ?? []).toString();
      const lines = text.split("\n").filter((line) => line !== "");
      if (lines.filter((line) => line.startsWith("event: ") || line.startsWith("{")).length < count) continue;
      await reader.cancel();
      return lines;
    }
  };
  // Of the two changes of `a` only the last need be told.
  const told = await read({}, `?from=${revision}`, 2);
  const last = told.findLastIndex((line) => line.startsWith("event: "));
  assert.equal(told[last], "event: delete");
  const put = told.findLastIndex((line) => line === "event: put");
  const resumed = await read({ "last-event-id": told[put + 1]!.slice(4), accept: "application/x-ndjson" }, "", 1);
  const { type, name } = JSON.parse(resumed[0]!);
  assert.deepEqual([type, name], ["delete", "a"]);
});

test("a page of this server's own may call it", async () => {
  await using bench = await openAdminBench();
  for (const host of ["127.0.0.1:8080", "[::1]:8080", "localhost:8080"]) {
    const answer = await bench.app.inject({
      method: "DELETE",
      url: "/api/v1/models/a",
      headers: { origin: `http://${host}`, host },
    });
    assert.equal(answer.statusCode, 200, host);
  }
});

test("the description is a valid list of every route", async () => {
  await using bench = await openAdminBench();
  const answer = await bench.app.inject({ url: "/api/v1/openapi.json" });
  assert.equal(answer.statusCode, 200, answer.body);
  const { openapi, paths } = answer.json<{ openapi: string; paths: Record<string, Record<string, unknown>> }>();
  assert.equal(openapi, "3.1.0");
  assert.deepEqual(Object.keys(paths["/api/v1/models/{name}"] ?? {}).toSorted(), ["delete", "get", "patch", "put"]);
});

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Record<string, unknown> }[];
  readonly requestBody?: { readonly required?: boolean };
  readonly responses: Record<string, { readonly content?: Record<string, unknown> }>;
}

test("the description says which bodies must be there, and of queries what they take", async () => {
  await using bench = await openAdminBench();
  await call(bench, "PUT", "models/known", spec);
  const { paths } = (await bench.app.inject({ url: "/api/v1/openapi.json" })).json<{
    paths: Record<string, Record<string, Operation>>;
  }>();
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase() as Method, operation })),
  );
  const bodies = operations.filter(({ operation }) => operation.requestBody !== undefined);
  assert.ok(bodies.length >= 7, `${bodies.length} take a body`);
  for (const { path, method, operation } of bodies) {
    const url = path.replaceAll(/\{\w+\}/g, "known");
    const { body } = await bench.app.inject({ method, url });
    const isMissed = body.includes("the body is missing");
    assert.equal(operation.requestBody?.required === true, isMissed, `${method} ${path}: ${body}`);
  }
  const queries = operations.flatMap(({ operation }) => (operation.parameters ?? []).filter((each) => each.in === "query"));
  const schemaOf = (name: string): unknown => queries.find((query) => query.name === name)?.schema;
  assert.deepEqual(schemaOf("details"), { type: "boolean" });
  assert.deepEqual(schemaOf("limit"), { type: "integer", minimum: 1, maximum: 1_000 });
  assert.deepEqual(schemaOf("label"), { type: "array", maxItems: 16, items: { type: "string", pattern: "^[^=]+(=.*)?$" } });
  const watch = paths["/api/v1/watch"]?.["get"]?.responses["200"]?.content ?? {};
  assert.deepEqual(Object.keys(watch).toSorted(), ["application/x-ndjson", "text/event-stream"]);
});

test("an unknown field is refused by its name", async () => {
  await using bench = await openAdminBench();
  const error = async (method: Method, path: string, payload?: object): Promise<string> => {
    const { status, body } = await call(bench, method, path, payload);
    assert.equal(status, 400);
    return body["error"];
  };
  assert.match(await error("PUT", "models/a", { ...spec, sizehint: 1 }), /unknown field "sizehint"/);
  assert.match(await error("GET", "models?page=2"), /unknown field "page"/);
  assert.match(await error("POST", "models/a/revisions", { ...spec, slots: 1 }), /unknown field "slots"/);
  assert.match(
    await error("PUT", "models/a/split", { split: [{ revision: "x", percent: 1, weight: 2 }] }),
    /split.0: unknown field "weight"/,
  );
});

test("a registry that is away is told by its code, not as a fault of the gateway", async () => {
  const routes = registryRoutes({
    registry: () => ({ models: 0, missing: 2 }),
    restoreRegistry: () => Promise.reject(new WarmpathError("registry-unavailable", "the registry does not answer")),
  });
  const app = createAdmin({ routes: [routes], log: silentLog });
  const answer = await app.inject({ method: "POST", url: "/api/v1/registry/restore" });
  assert.equal(answer.statusCode, 503);
  assert.deepEqual(answer.json(), { error: "the registry does not answer", code: "registry-unavailable" });
  assert.deepEqual((await app.inject({ url: "/api/v1/registry" })).json(), { models: 0, missing: 2 });
});
