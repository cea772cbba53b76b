// A pod that stands still or is lost, and no other can answer for it: whoever waits for it is answered by it when it comes back,
// and hears in time that nobody can, in a way that says to try again, when it does not.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { createRandom } from "#cli/library/random.ts";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { createRestClient, type RestAnswer } from "../harness/http.ts";
import { openSlowPod } from "../harness/slowpod.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;
let model: string;
let body: unknown;
let grpc: GrpcClient;

before(async () => {
  fleet = await openFleet({ pods: 1 });
  [model = ""] = fleet.oracle.models;
  ({ body } = fleet.oracle.sampleCase(model, createRandom("lost")));
  grpc = await openGrpcClient(fleet.grpcTarget);
});

after(async () => {
  await grpc?.[Symbol.asyncDispose]();
  await fleet?.[Symbol.asyncDispose]();
});

const askRest = async (): Promise<RestAnswer> => {
  await using client = createRestClient(fleet.restUrl);
  return await client.ask(`/v2/models/${model}/infer`, { method: "POST", body });
};

const warm = async (): Promise<void> => {
  await fleet.whenServing();
  await waitUntil(
    "it is warm",
    async () => (await askRest()).status,
    (status) => status === 200,
  );
};

const freeze = (): Disposable => {
  const pids = ["pod-0-server", "pod-0-adapter"].map((name) => fleet.process(name).pid!);
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  return {
    [Symbol.dispose]() {
      for (const pid of pids) process.kill(pid, "SIGCONT");
    },
  };
};

test("the only pod stands still for long: over REST and gRPC the client hears why nobody answers, and to try again", async () => {
  await warm();
  using _frozen = freeze();
  const message = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: model }));
  const [rest, call] = await Promise.all([askRest(), grpc.call(inferencePath("ModelInfer"), frameOf(message))]);
  assert.equal(rest.status, 503, rest.text);
  assert.match(rest.text, /nowhere for .*: 0 pods/);
  assert.ok(Number(rest.headers["retry-after"]) >= 1, JSON.stringify(rest.headers));
  assert.equal(rest.headers["x-warm-not-here"], undefined);
  assert.equal(call.status, 14, call.message);
  assert.match(call.message, /nowhere for .*: 0 pods/);
});

test("the only pod stands still and goes on: what was under way is answered, and nobody hears of it", async () => {
  await warm();
  const { reroutes } = await fleet.stats();
  const asked = await (async (): Promise<Promise<RestAnswer>[]> => {
    using _frozen = freeze();
    const asking = Array.from({ length: 20 }, askRest);
    await waitUntil(
      "the gateway is asked for all of them, and has lost the pod",
      async () => [(await fleet.stats()).reroutes, await fleet.management.linkedPods()] as const,
      ([seen, linked]) => seen >= reroutes + 20 && linked === 0,
    );
    return asking;
  })();
  for (const { status, text } of await Promise.all(asked)) assert.equal(status, 200, text);
});

test("an inference whose adapter died is not cut off while its model server still computes", async () => {
  await using pod = await openSlowPod(fleet, "slow-0");
  await fleet.register("long", "file:///long", "slow");
  const { reroutes } = await fleet.stats();
  const answer = fetch(`${fleet.restUrl}/v2/models/long/infer`, { method: "POST", body: "{}" });
  await waitUntil(
    "the gateway is asked for it",
    () => fleet.stats(),
    (stats) => stats.reroutes > reroutes,
  );
  await pod.endAdapter();
  await waitUntil(
    "the gateway has found that nobody else has it",
    () => fleet.tail("gateway"),
    (text) => text.split("\n").some((line) => line.includes('"model":"long"') && line.includes("a load failed")),
  );
  assert.equal(pod.asked.length, 1);
  pod.asked[0]?.end("{}");
  assert.equal((await answer).status, 200);
});
