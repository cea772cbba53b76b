// A model server made for ModelMesh that has gRPC alone, called over REST: Envoy puts the calls into gRPC, on hits, on misses, and
// where they are sent to another pod.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { parseModel } from "#core/model.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { putModel } from "#platform/registry/records.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import type { ModelInferRequest } from "#proto/gen/inference/open_inference_pb.ts";
import { openAdapterPod } from "../harness/adapterpod.ts";
import { type CustomRuntime, openCustomRuntime } from "../harness/customruntime.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { createRestClient, type RestAnswer, type RestClient } from "../harness/http.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let folder: string;
let client: RestClient;
const runtimes: CustomRuntime[] = [];
/** What the model servers were asked since the test began, and by which headers. */
const asked: { readonly request: ModelInferRequest; readonly metadata: Metadata; readonly at: number }[] = [];
let onInfer: (request: ModelInferRequest) => void | Promise<void> = () => undefined;

async function openPod(at: number): Promise<void> {
  const runtime = stack.use(
    await openCustomRuntime(async (request, metadata) => {
      asked.push({ request, metadata, at });
      await onInfer(request);
    }),
  );
  runtimes.push(runtime);
  const { grpcAddress, managementAddress } = runtime;
  const pod = { podId: `custom-${at}`, runtime: "acme", driver: "modelmesh", grpcAddress };
  const flags = { "server-address": managementAddress, records: join(folder, `copies-${at}`), "min-age": "0s" };
  stack.use(await openAdapterPod(fleet, { ...pod, capacityBytes: 2 ** 30, storageRoot: folder, flags }));
}

before(async () => {
  folder = stack.use(await openRunFolder()).path;
  fleet = stack.use(await openFleet({ pods: 1 }));
  await openPod(0);
  client = stack.use(createRestClient(fleet.restUrl));
  for (const name of ["one", "two", "three", "four", "five"]) {
    await writeFile(join(folder, name), name);
    await fleet.register(name, `file://${join(folder, name)}`, "acme");
  }
});

after(() => stack.disposeAsync());

const inputs = [{ name: "x", datatype: "INT64", shape: [2], data: [1, -2] }];

async function infer(model: string, more: object = {}, headers: [string, string][] = []): Promise<RestAnswer> {
  return await client.ask(`/v2/models/${model}/infer`, { headers, body: { inputs, ...more } });
}

function assertInferred({ status, text }: RestAnswer, model: string): void {
  assert.equal(status, 200, text);
  assert.equal(text, JSON.stringify({ model_name: model, model_version: "1", outputs: inputs }));
}

async function whenRouted(model: string): Promise<void> {
  await waitUntil(
    `${model} is routed`,
    () => fleet.manage("GET", `/api/v1/models/${model}`),
    ({ text }) => text.includes('"acknowledged":true'),
  );
}

test("cold and warm; a hit runs no JavaScript", async () => {
  const cold = await infer("one");
  assertInferred(cold, "one");
  assert.ok(Number(cold.headers["x-warm-load-ms"]) > 0);
  await whenRouted("one");
  const { javascriptRequests } = await fleet.stats();
  const warm = await infer("one");
  assertInferred(warm, "one");
  assert.equal(warm.headers["content-type"], "application/json");
  assert.equal(warm.headers["x-warm-load-ms"], undefined);
  for (const name of Object.keys(warm.headers)) assert.doesNotMatch(name, /^grpc-/);
  assert.equal((await fleet.stats()).javascriptRequests, javascriptRequests);
});

test("metadata and readiness, cold too, with a version or without", async () => {
  const x = { name: "x", datatype: "FP32", shape: [-1, 4] };
  const metadata = { name: "two", versions: ["1"], platform: "echo", inputs: [x], outputs: [x] };
  for (const path of ["/v2/models/two", "/v2/models/two/versions/1", "/v2/models/two?x=1"]) {
    assert.deepEqual((await client.ask(path)).json, metadata, path);
  }
  assert.deepEqual((await client.ask("/v2/models/two/ready")).json, { name: "two", ready: true });
  const versioned = await client.ask("/v2/models/two/versions/7/infer", { body: { inputs } });
  assert.deepEqual(versioned.json, { model_name: "two", model_version: "7", outputs: inputs });
});

test("what a client says of gRPC or of another model does not reach the model server", async () => {
  asked.length = 0;
  const headers: [string, string][] = [
    ["mm-model-id", "two"],
    ["mm-vmodel-id", "two"],
    ["grpc-encoding", "gzip"],
    ["x-warm-rest-call", "POST  /v2/models/two/infer"],
    ["x-mine", "yes"],
  ];
  assertInferred(await infer("one", {}, headers), "one");
  const [first] = asked;
  assert.equal(first?.request.modelName, "one");
  const { "x-mine": mine, ...others } = first?.metadata.getMap() ?? {};
  assert.equal(mine, "yes");
  assert.deepEqual(
    Object.keys(others).filter((name) => /^(?:mm-|grpc-)/.test(name)),
    [],
  );
});

test("what the model server refuses is refused over REST, with its headers", async () => {
  for (const [code, status] of [
    [3, 400],
    [8, 429],
    [12, 501],
    [14, 503],
    [4, 504],
    [13, 500],
  ] as const) {
    onInfer = () => {
      const metadata = new Metadata();
      metadata.set("retry-after", "7");
      throw Object.assign(new Error(), { code, details: 'no "thing"\nänd 100%', metadata });
    };
    const answer = await infer("one");
    assert.deepEqual([answer.status, answer.json], [status, { error: 'no "thing"\nänd 100%' }]);
    assert.equal(answer.headers["content-type"], "application/json");
  }
  onInfer = () => undefined;
});

test("other calls are refused in words, cold and warm", async () => {
  for (const model of ["one", "five"]) {
    const predict = await client.ask(`/v1/models/${model}:predict`, { body: { instances: [1] } });
    assert.equal(predict.status, 501, predict.text);
    assert.match(predict.text, /gRPC alone/);
  }
  const bad = await client.ask("/v2/models/one/infer", { body: "{" });
  assert.deepEqual([bad.status, bad.json], [400, { error: "the body is not JSON" }]);
  const got = await client.ask("/v2/models/one/infer");
  assert.deepEqual([got.status, got.headers["allow"], got.json], [405, "POST", { error: "use POST" }]);
});

test("a model that it forgot is loaded anew", async () => {
  for (const model of ["one", "two"]) await infer(model);
  await whenRouted("one");
  runtimes[0]?.held.clear();
  assertInferred(await infer("one"), "one");
  runtimes[0]?.held.clear();
  assert.equal((await client.ask("/v2/models/two")).status, 200);
});

test("another revision is named by its slot, and the client does not see it, cold, warm and rerouted", async () => {
  assertInferred(await infer("three"), "three");
  await writeFile(join(folder, "three-b"), "three-b");
  const added = await fleet.manage("POST", "/api/v1/models/three/revisions?activate=now", {
    format: "acme",
    storageUri: `file://${join(folder, "three-b")}`,
  });
  assert.ok(added.status < 300, added.text);
  const answered = async (): Promise<string | undefined> => {
    asked.length = 0;
    assertInferred(await infer("three"), "three");
    return asked.at(-1)?.request.modelName;
  };
  await waitUntil("the other revision answers", answered, (name) => name === "three~1");
  await whenRouted("three");
  assert.equal(await answered(), "three~1");
  assert.equal(((await client.ask("/v2/models/three")).json as { name: string }).name, "three");
  runtimes[0]?.held.clear();
  assert.equal(await answered(), "three~1");
});

test("parts of the requests go to other revisions, and copies to a third, each under its own name", async () => {
  await using registry = await openRegistry({ kind: "embedded", file: fleet.registryFile });
  const revisions = [0, 1, 2].map((slot) => ({
    id: `r${slot}`,
    slot,
    format: "acme",
    storageUri: `file://${join(folder, "one")}`,
  }));
  const shares = { split: [{ revision: "r1", percent: 50 }], mirror: { revision: "r2", percent: 100 } };
  const parsed = parseModel({ name: "mixed", revisions, active: "r0", ...shares });
  assert.ok(parsed.kind === "ok", JSON.stringify(parsed));
  assert.equal((await putModel(registry, parsed.model)).kind, "ok");
  await waitUntil(
    "it is known",
    () => fleet.manage("GET", "/api/v1/models/mixed"),
    ({ status }) => status === 200,
  );
  asked.length = 0;
  await waitUntil(
    "every revision is asked",
    async () => {
      assertInferred(await infer("mixed"), "mixed");
      return new Set(asked.map(({ request }) => request.modelName));
    },
    (names) => names.size === 3,
  );
  assert.deepEqual(new Set(asked.map(({ request }) => request.modelName)), new Set(["mixed", "mixed~1", "mixed~2"]));
  for (const { request } of asked) assert.deepEqual(request.inputs[0]?.contents?.int64Contents, [1n, -2n]);
});

test("bodies that are too large to be sent again pass both ways, cold and warm", async () => {
  const size = 3_000_000;
  const large = [{ name: "x", datatype: "INT32", shape: [size], data: Array<number>(size).fill(127) }];
  await writeFile(join(folder, "large"), "large");
  await fleet.register("large", `file://${join(folder, "large")}`, "acme");
  for (const attempt of ["cold", "warm"]) {
    const { status, text } = await client.ask("/v2/models/large/infer", { body: { inputs: large } });
    assert.equal(status, 200, `${attempt}: ${text.slice(0, 300)}`);
    assert.equal((JSON.parse(text) as { outputs: { data: number[] }[] }).outputs[0]?.data.length, size);
    await whenRouted("large");
  }
  // As a number of a message -1 takes ten bytes, and all of them more than Envoy holds.
  const grown = await client.ask("/v2/models/large/infer", { body: { inputs: [{ ...large[0], data: Array(size).fill(-1) }] } });
  assert.deepEqual([grown.status, grown.json], [413, { error: "Payload Too Large" }]);
});

test("usage of hits is counted for their model", async () => {
  const used = async (): Promise<number> => (await fleet.stats()).hits ?? 0;
  await infer("one");
  await whenRouted("one");
  const before = await used();
  for (let at = 0; at < 5; at++) await infer("one");
  await waitUntil("the hits are counted", used, (now) => now >= before + 5);
});

test("a call without an answer for long is answered by its first try, once", async () => {
  await infer("four");
  await whenRouted("four");
  const { reroutes } = await fleet.stats();
  asked.length = 0;
  onInfer = async () => {
    await waitUntil(
      "the gateway is asked beside it",
      async () => (await fleet.stats()).reroutes,
      (now) => now > reroutes,
    );
  };
  assertInferred(await infer("four"), "four");
  onInfer = () => undefined;
  assert.equal(asked.length, 1);
});

test("a pod whose model server is gone is left for another", async () => {
  await infer("one");
  await whenRouted("one");
  await openPod(1);
  await runtimes[0]?.[Symbol.asyncDispose]();
  asked.length = 0;
  assertInferred(await infer("one"), "one");
  assert.equal(asked.at(-1)?.at, 1);
});

test("what cannot be sent to another pod is told so, and to try again, in JSON", async () => {
  await infer("two");
  await whenRouted("two");
  await runtimes[1]?.[Symbol.asyncDispose]();
  const answer = await infer("two", { unknown: "x".repeat(6_000_000) });
  assert.equal(answer.status, 503, answer.text);
  assert.equal(answer.headers["retry-after"], "1");
  assert.ok("error" in (answer.json as object), answer.text);
});
