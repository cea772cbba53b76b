// The main job on a whole fleet: any of the library's models answers rightly, hot or cold; hits touch no JavaScript of ours.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { create, toBinary } from "@bufbuild/protobuf";
import { createRandom } from "#cli/library/random.ts";
import { driveTraffic } from "#cli/traffic/drive.ts";
import type { Stats } from "#cli/up/management.ts";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { loadsForRequests } from "../harness/decisions.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { createRestClient, type RestClient } from "../harness/http.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;
let rest: RestClient;
let grpc: GrpcClient;

before(async () => {
  fleet = await openFleet();
  rest = createRestClient(fleet.restUrl);
  grpc = await openGrpcClient(fleet.grpcTarget);
});

after(async () => {
  await grpc?.[Symbol.asyncDispose]();
  await rest?.[Symbol.asyncDispose]();
  await fleet?.[Symbol.asyncDispose]();
});

/** What Envoy alone counts: requests on both ports, streams to the gateway, requests to model servers. */
async function readEnvoy(): Promise<{ requests: number; asked: number; served: number }> {
  const stats = await fleet.envoyStats("^(http\\.warm_(http|grpc|reroute)|cluster\\.set-)");
  const sum = (pattern: RegExp): number =>
    [...stats].reduce((total, [name, value]) => total + (pattern.test(name) ? value : 0), 0);
  return {
    requests: sum(/^http\.warm_(http|grpc)\.downstream_rq_total$/),
    asked: sum(/^http\.warm_(http|grpc|reroute)\.ext_proc.*streams_started$/),
    served: sum(/^cluster\.set-[0-9a-f]+-(rest|grpc)\.upstream_rq_total$/),
  };
}

/** A request that waited does not wait for the model's own route as well, so the next may still come before it. */
async function askUntilHit(model: string, wire: "rest" | "grpc"): Promise<number> {
  let misses = 0;
  await waitUntil(
    `${model} is hit`,
    () => fleet.asker.ask(model, wire),
    ({ miss }) => {
      misses += miss ? 1 : 0;
      return !miss;
    },
    1_000,
  );
  return misses;
}

test("every model of the library is registered", async () => {
  const stats = await fleet.stats();
  assert.equal(stats.models, fleet.oracle.models.length);
  assert.equal(stats.models, 10_000);
});

for (const [wire, models] of [
  ["rest", ["iris-t0007", "wine-t0007", "cancer-t0007", "diabetes-t0007", "digits-t0007", "magika"]],
  ["grpc", ["iris-t0008", "wine-t0008", "cancer-t0008", "diabetes-t0008", "digits-t0008"]],
] as const) {
  for (const model of models) {
    test(`${model}, cold, answers rightly over ${wire}; soon after, requests are hits`, async () => {
      const before = await fleet.stats();
      assert.deepEqual(await fleet.asker.ask(model, wire), { miss: true });
      const missed = 1 + (await askUntilHit(model, wire));
      const after = await fleet.stats();
      assert.equal(after.misses - before.misses, missed, "misses");
      assert.equal(after.javascriptRequests - before.javascriptRequests, missed, "requests that JavaScript handled");
      await waitUntil(
        "the load is told",
        () => fleet.stats(),
        ({ loads }) => loads === before.loads + 1,
      );
    });
  }
}

test("1,000 hits over REST and gRPC touch no JavaScript of gateway or adapter", async () => {
  const models = ["iris-t0007", "wine-t0007", "cancer-t0008", "digits-t0008"];
  for (const model of models) await askUntilHit(model, "rest");
  const [before, envoyBefore, servedBefore] = [await fleet.stats(), await readEnvoy(), await fleet.serverRequests()];
  for (let round = 0; round < 125; round++) {
    const asked = models.flatMap((model) => [fleet.asker.ask(model, "rest"), fleet.asker.ask(model, "grpc")]);
    for (const { miss } of await Promise.all(asked)) assert.equal(miss, false, `a miss in round ${round}`);
  }
  const [after, envoyAfter, servedAfter] = [await fleet.stats(), await readEnvoy(), await fleet.serverRequests()];
  assert.equal(after.javascriptRequests - before.javascriptRequests, 0, "requests that JavaScript handled");
  assert.equal(after.misses - before.misses, 0, "misses");
  assert.equal((after.hits ?? 0) - (before.hits ?? 0), 1_000, "hits, as the gateway reads them");
  assert.equal(envoyAfter.requests - envoyBefore.requests, 1_000, "requests that Envoy took");
  assert.equal(envoyAfter.asked - envoyBefore.asked, 0, "ext_proc streams that Envoy opened");
  assert.equal(envoyAfter.served - envoyBefore.served, 1_000, "requests that Envoy sent to model servers");
  assert.equal(servedAfter - servedBefore, 1_000, "inference requests that the model servers had");
});

test("V1 predicts, cold and hot", async () => {
  const model = "iris-t0100";
  const { body } = fleet.oracle.sampleCase(model, createRandom("v1"));
  const row = body.inputs[0].data;
  const want = fleet.oracle.predict(model, row);
  for (const hot of [false, true]) {
    if (hot) await askUntilHit(model, "rest");
    const answer = await rest.ask(`/v1/models/${model}:predict`, { body: { instances: [row, row] } });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.headers["x-warm-load-ms"] === undefined, hot, "whether it waited");
    const { predictions } = answer.json as { predictions: { label: number }[] };
    assert.deepEqual(
      predictions.map(({ label }) => label),
      [want.value, want.value],
      answer.text,
    );
  }
});

test("metadata and readiness of a cold model answer over REST", async () => {
  const ready = await rest.ask("/v2/models/wine-t0101/ready");
  assert.equal(ready.status, 200, ready.text);
  const metadata = await rest.ask("/v2/models/wine-t0101");
  assert.equal(metadata.status, 200, metadata.text);
  assert.equal((metadata.json as { name: string }).name, "wine-t0101");
  const v1 = await rest.ask("/v1/models/wine-t0101");
  assert.equal(v1.status, 200, v1.text);
});

test("an unknown model is 404 with an error in JSON, and NOT_FOUND over gRPC, at once", async () => {
  const overRest = await rest.ask("/v2/models/nobody/infer", { body: {} });
  assert.equal(overRest.status, 404, overRest.text);
  assert.deepEqual(overRest.json, { error: "Model nobody not found" });
  assert.match(String(overRest.headers["content-type"]), /^application\/json/);
  const overV1 = await rest.ask("/v1/models/nobody:predict", { body: {} });
  assert.equal(overV1.status, 404, overV1.text);
  assert.deepEqual(overV1.json, { error: "Model nobody not found" });
  const message = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: "nobody" }));
  const overGrpc = await grpc.call(inferencePath("ModelInfer"), frameOf(message));
  assert.equal(overGrpc.status, 5, overGrpc.message);
  assert.match(overGrpc.message, /nobody not found/);
  for (const { tookMs } of [overRest, overV1, overGrpc]) assert.ok(tookMs < 5_000, `it took ${tookMs} ms`);
});

test("200 requests at once for one cold model load it once", async () => {
  const model = "digits-t0200";
  const sinceMs = Date.now();
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, at) => fleet.asker.ask(model, at % 4 === 0 ? "grpc" : "rest")),
  );
  assert.ok(answers.filter(({ miss }) => miss).length > 1, "hardly any of them waited: they were not at once");
  // So much demand may bring a second copy later; that is no load for a request.
  const loads = await loadsForRequests(fleet, model, sinceMs);
  assert.equal(loads.length, 1, loads.join());
});

test("far more models than fit: none fails, none is wrong, the oldest make room, JavaScript sees the misses only", async () => {
  const before = await fleet.stats();
  const sums = { requests: 0, hits: 0, misses: 0, failed: 0, wrong: 0 };
  const fill = async (): Promise<Stats> => {
    const report = await driveTraffic({
      restUrl: fleet.restUrl,
      grpcTarget: fleet.grpcTarget,
      models: fleet.oracle.models,
      oracle: fleet.oracle,
      durationMs: 5_000,
      concurrency: 16,
      zipfExponent: 0.5,
      seed: 7 + sums.requests,
      signal: AbortSignal.timeout(60_000),
    });
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += report[key];
    return await fleet.stats();
  };
  await waitUntil("the oldest make room", fill, ({ evictions }) => evictions > before.evictions, 120_000);
  // Counters come with the pods' next word.
  const after = await waitUntil(
    "all is told",
    () => fleet.stats(),
    ({ javascriptRequests }) => javascriptRequests - before.javascriptRequests === sums.misses,
  );
  const seen = `${JSON.stringify(sums)} ${JSON.stringify(after)} ${JSON.stringify(await readEnvoy())}`;
  assert.equal(sums.failed, 0, seen);
  assert.equal(sums.wrong, 0, seen);
  assert.ok(sums.requests > 100, seen);
  assert.ok(sums.hits > 0 && sums.misses > 0, seen);
  assert.equal(after.javascriptRequests - before.javascriptRequests, sums.misses, seen);
  assert.ok(after.usedBytes <= after.capacityBytes, seen);
  assert.equal(after.extProcErrors, 0, seen);
});

test("a name registered anew is never answered by its old copies", async () => {
  const row = [5.1, 3.5, 1.4, 0.2];
  const body = { inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: row }] };
  await using client = createRestClient(fleet.restUrl);
  for (let turn = 0; turn < 10; turn++) {
    const source = `iris-t000${1 + (turn % 2)}`;
    await fleet.register("anew", pathToFileURL(join(fleet.libraryFolder, `models/iris/${source}.onnx`)).href);
    const expected = fleet.oracle.predict(source, row);
    for (let attempt = 0; attempt < 3; attempt++) {
      const answer = await client.ask("/v2/models/anew/infer", { method: "POST", body });
      assert.equal(answer.status, 200, answer.text);
      const { outputs } = JSON.parse(answer.text) as { outputs: { name: string; data: number[] }[] };
      const scores = outputs.find(({ name }) => name === "scores")?.data ?? [];
      assert.ok(expected.kind === "label" && scores.length === expected.scores.length);
      for (const [at, score] of scores.entries())
        assert.ok(Math.abs(score - expected.scores[at]!) < 1e-2, `turn ${turn}: ${answer.text}`);
    }
    assert.equal((await fleet.manage("DELETE", "/api/v1/models/anew")).status, 200);
  }
});

test("no process had to be started again", async () => {
  const restarts = Object.fromEntries([...fleet.processes].map(([name, process]) => [name, process.restarts]));
  assert.deepEqual(new Set(Object.values(restarts)), new Set([0]), JSON.stringify(restarts));
});
