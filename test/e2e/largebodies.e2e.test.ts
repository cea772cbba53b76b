// Requests as large as those with images are not lost either when their first pod cannot answer them: its model server has
// forgotten the model, or dies while it has the request.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { retryBodyBytes } from "#envoy/retries.ts";
import { sleep } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { forgetModel } from "../harness/forgetting.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { createRestClient, type RestClient } from "../harness/http.ts";
import { buildSmallLibrary } from "../harness/setup.ts";
import { openSlowPod } from "../harness/slowpod.ts";
import { waitUntil } from "../harness/wait.ts";

const model = "iris-t0001";
const rows = 230_000;
const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let rest: RestClient;
let grpc: GrpcClient;

before(async () => {
  const { path } = stack.use(await openRunFolder());
  fleet = stack.use(await openFleet({ libraryFolder: await buildSmallLibrary(path) }));
  rest = stack.use(createRestClient(fleet.restUrl));
  grpc = stack.use(await openGrpcClient(fleet.grpcTarget));
});
after(() => stack[Symbol.asyncDispose]());

const json = JSON.stringify({ inputs: [{ name: "x", shape: [rows, 4], datatype: "FP32", data: Array(rows * 4).fill(5.1) }] });
const message = toBinary(
  ModelInferRequestSchema,
  create(ModelInferRequestSchema, {
    modelName: model,
    inputs: [{ name: "x", datatype: "FP32", shape: [BigInt(rows), 4n] }],
    rawInputContents: [new Uint8Array(new Float32Array(rows * 4).fill(5.1).buffer)],
  }),
);

async function askLarge(wire: "rest" | "grpc"): Promise<void> {
  if (wire === "rest") {
    const { status, text } = await rest.ask(`/v2/models/${model}/infer`, { body: json });
    assert.equal(status, 200, text.slice(0, 500));
  } else {
    const { status, message: told } = await grpc.call(inferencePath("ModelInfer"), frameOf(message));
    assert.equal(status, 0, told);
  }
}

for (const wire of ["rest", "grpc"] as const) {
  test(`${wire}: a model server has forgotten the model: a request of more than 3 MiB is answered by another load`, async () => {
    assert.ok(json.length > 3 * 2 ** 20 && message.length > 3 * 2 ** 20);
    await askLarge(wire);
    const { reroutes } = await fleet.stats();
    await forgetModel(fleet, model);
    await askLarge(wire);
    assert.equal((await fleet.stats()).reroutes, reroutes + 1);
  });
}

/** Large only on the way there: an answer that has begun cannot be had from another pod. */
const paddedBy = (bytes: number): string =>
  `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]${" ".repeat(bytes)}}`;
const padded = paddedBy(3_500_000);
const tooLargeToKeep = paddedBy(retryBodyBytes);

/** As `tooLargeToKeep`: an output that nobody asks for pads it. */
function messageTooLargeToKeep(): Uint8Array {
  return toBinary(
    ModelInferRequestSchema,
    create(ModelInferRequestSchema, {
      modelName: model,
      id: "i".repeat(retryBodyBytes),
      inputs: [{ name: "x", datatype: "FP32", shape: [1n, 4n], contents: { fp32Contents: [5.1, 3.5, 1.4, 0.2] } }],
    }),
  );
}

interface Told {
  readonly isAnswer: boolean;
  readonly seen: string;
  readonly retryAfter: unknown;
}

async function askTooLarge(wire: "rest" | "grpc"): Promise<Told> {
  if (wire === "rest") {
    const { status, text, headers } = await rest.ask(`/v2/models/${model}/infer`, { body: tooLargeToKeep });
    return { isAnswer: status === 200, seen: `${status} ${text.slice(0, 200)}`, retryAfter: headers["retry-after"] };
  }
  const { status, message: told, headers } = await grpc.call(inferencePath("ModelInfer"), frameOf(messageTooLargeToKeep()));
  return { isAnswer: status === 0, seen: `${status} ${told}`, retryAfter: headers["retry-after"] };
}

for (const [wire, unavailable] of [
  ["rest", /^503 \{"error":"Model iris-t0001 is not loaded on this pod"\}/],
  ["grpc", /^14 Model iris-t0001 is not loaded on this pod/],
] as const) {
  test(`${wire}: one that is too large to be kept is told to try again, and then it is answered`, async () => {
    // As a client does that is told when to try again. The adapter's own look, every 10 s, would leave it refused some 25 times.
    let refused = 0;
    for (let turn = 0; turn < 5; turn++) {
      await askLarge(wire);
      await forgetModel(fleet, model);
      let told = await askTooLarge(wire);
      assert.ok(!told.isAnswer);
      for (; !told.isAnswer; told = await askTooLarge(wire)) {
        refused += 1;
        assert.match(told.seen, unavailable);
        assert.equal(told.retryAfter, "1");
        await sleep(1_000);
      }
    }
    assert.ok(refused <= 10, `${refused} times`);
  });
}

test("a pod is lost under a request that is too large to be kept: its client is told to try again, and when", async () => {
  await using pod = await openSlowPod(fleet, "slow-0");
  await fleet.register("slow", "file:///slow", "slow");
  for (const path of ["/v2/models/slow/infer", "/v1/chat/completions"]) {
    const body = path.startsWith("/v1") ? `{"model":"slow","messages":[${" ".repeat(retryBodyBytes)}]}` : tooLargeToKeep;
    // Once cold and once warm.
    for (let turn = 0; turn < 2; turn++) {
      await using own = createRestClient(fleet.restUrl);
      const asking = own.ask(path, { body });
      await pod.whenAsked(1);
      const [response] = pod.asked.splice(0);
      const incoming = response?.req;
      await waitUntil(
        "it has come whole",
        () => incoming?.complete,
        (complete) => complete === true,
      );
      response?.destroy();
      const { status, text, headers } = await asking;
      assert.equal(status, 503, text);
      assert.match(text, /^\{"error":.*connection termination/);
      assert.equal(headers["retry-after"], "1");
    }
  }
});

test("a model server is killed while large requests are under way: none fails", async () => {
  const { copies } = (await fleet.manage("GET", `/api/v1/models/${model}`)).json as { copies: { pod: string; state: string }[] };
  const pod = copies.find(({ state }) => state === "ready")?.pod;
  const server = fleet.process(`${pod}-server`);
  const { pid, restarts } = server;
  assert.ok(pid !== undefined);
  let answered = 0;
  const over = new AbortController();
  const asking = Array.from({ length: 4 }, async () => {
    await using own = createRestClient(fleet.restUrl);
    while (!over.signal.aborted) {
      const { status, text } = await own.ask(`/v2/models/${model}/infer`, { body: padded });
      assert.equal(status, 200, text.slice(0, 500));
      answered += 1;
    }
  });
  const done = Promise.all(asking);
  try {
    const isMore = (count: number) =>
      Promise.race([
        waitUntil(
          "answers",
          () => answered,
          (seen) => seen >= count,
          60_000,
        ),
        done,
      ]);
    await isMore(8);
    process.kill(pid, "SIGKILL");
    await waitUntil(
      "it is started again",
      () => server.restarts,
      (seen) => seen > restarts,
      60_000,
    );
    await isMore(answered + 8);
  } finally {
    over.abort();
    await done;
  }
});
