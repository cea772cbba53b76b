// Callers who must prove who they are, over REST, of a model whose server has gRPC alone: they are let in, turned away and held to
// their quota before anything is put into gRPC, and a second try is not asked for it again.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Server } from "@grpc/grpc-js";
import { bindServer, closeServer } from "#platform/grpc.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { addEcho } from "../harness/echoservice.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { createRestClient, type RestAnswer, type RestClient } from "../harness/http.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
const keys = new Map<string, string>();
const lost = new Set<string>();
let fleet: TestFleet;
let client: RestClient;

before(async () => {
  const folder = stack.use(await openRunFolder());
  const authFile = join(folder.path, "auth.yaml");
  await writeFile(authFile, "apiKeys: true\n");
  fleet = stack.use(await openFleet({ pods: 1, authFile }));
  const echo = new Server();
  addEcho(echo, { holds: (name) => !lost.has(name) });
  const address = `127.0.0.1:${await bindServer(echo, "127.0.0.1:0")}`;
  stack.defer(() => closeServer(echo, 200));
  const registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const at = { restAddress: address, grpcAddress: address, restByGrpc: true, absenceByStatus: true };
  const pod = stack.use(await openFakePod({ registry, podId: "echo-0", runtime: "echo", ...at }));
  // Once the gateway asks for it, it is there again.
  pod.setHolds((model) => lost.delete(model) || true);
  await waitUntil(
    "the pods are linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 2,
  );
  client = stack.use(createRestClient(fleet.restUrl));
  for (const name of ["own", "other"]) await fleet.register(name, `file:///${name}`, "echo");
  for (const [principal, model] of [
    ["team-a", "own"],
    ["team-b", "other"],
  ] as const) {
    const made = await fleet.manage("POST", "/api/v1/keys", { principal });
    keys.set(principal, (made.json as { key: string }).key);
    const put = await fleet.manage("PUT", `/api/v1/policies/${model}`, { callers: [principal], models: { names: [model] } });
    assert.ok(put.status < 300, put.text);
    await waitUntil(
      `${principal} is let in`,
      () => infer(model, principal),
      ({ status }) => status === 200,
    );
  }
});

after(() => stack.disposeAsync());

function infer(model: string, principal: string | undefined, more: [string, string][] = []): Promise<RestAnswer> {
  const key = keys.get(principal ?? "");
  const headers: [string, string][] = key === undefined ? more : [["x-api-key", key], ...more];
  return client.ask(`/v2/models/${model}/infer`, { headers, body: { inputs: [] } });
}

test("who may not is turned away, warm as the model is, and whatever the headers say of another", async () => {
  assert.equal((await infer("own", undefined)).status, 401);
  assert.equal((await infer("own", "team-b")).status, 403);
  for (const name of ["mm-model-id", "x-warm-model", "x-warm-public-name"]) {
    const answer = await infer("own", "team-a", [[name, "other"]]);
    assert.equal((answer.json as { model_name?: string }).model_name, "own", answer.text);
  }
});

test("who may is answered by Envoy alone", async () => {
  await waitUntil(
    "it is a hit",
    async () => {
      const { javascriptRequests } = await fleet.stats();
      assert.equal((await infer("own", "team-a")).status, 200);
      return (await fleet.stats()).javascriptRequests - javascriptRequests;
    },
    (asked) => asked === 0,
  );
});

test("a second try is not asked who it is", async () => {
  lost.add("own");
  const answer = await infer("own", "team-a");
  assert.equal(answer.status, 200, answer.text);
  assert.equal(lost.size, 0);
});

test("a quota of requests is kept", async () => {
  const put = await fleet.manage("PUT", "/api/v1/quotas/a", { tenants: ["team-a"], requestsPerSecond: 1 });
  assert.ok(put.status < 300, put.text);
  const refused = await waitUntil(
    "one is too many",
    () => infer("own", "team-a"),
    ({ status }) => status === 429,
  );
  assert.deepEqual(refused.json, { error: "this tenant's quota of requests per second is used up" });
  assert.equal((await infer("other", "team-b")).status, 200);
});
