// Calls as ModelMesh's clients make them: any gRPC service, the model named in a header.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type handleUnaryCall, Server, type ServiceDefinition, status } from "@grpc/grpc-js";
import { bindServer, closeServer } from "#platform/grpc.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
const seen: { method: string; model: string; others: string[]; body: Buffer }[] = [];
const predict = "/tensorflow.serving.PredictionService/Predict";
let fleet: TestFleet;
let grpc: GrpcClient;

/** Answers any of these methods with what it was sent, and keeps what it saw. */
function echo(method: string): ServiceDefinition[string] & { handle: handleUnaryCall<Buffer, Buffer> } {
  const asIs = (bytes: Buffer): Buffer => bytes;
  return {
    path: method,
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
    handle: ({ metadata, request }, answer) => {
      const others = Object.keys(metadata.getMap()).filter((name) => name.startsWith("mm-") && name !== "mm-model-id");
      seen.push({ method, model: metadata.get("mm-model-id").join(), others, body: request });
      answer(null, request);
    },
  };
}

before(async () => {
  const server = new Server();
  const methods = [
    predict,
    inferencePath("ModelInfer"),
    inferencePath("RepositoryModelUnload"),
    "/mmesh.ModelRuntime/unloadModel",
  ].map(echo);
  server.addService(
    Object.fromEntries(methods.map((method) => [method.path, method])),
    Object.fromEntries(methods.map((method) => [method.path, method.handle])),
  );
  const address = `127.0.0.1:${await bindServer(server, "127.0.0.1:0")}`;
  stack.defer(() => closeServer(server, 100));
  fleet = stack.use(await openFleet({ pods: 1 }));
  const registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  stack.use(await openFakePod({ registry, podId: "tf-0", runtime: "tensorflow", restAddress: address, grpcAddress: address }));
  await waitUntil(
    "the pod is linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 2,
  );
  for (const name of ["one", "two", "three", "four"]) await fleet.register(name, `file:///${name}`, "tensorflow");
  grpc = stack.use(await openGrpcClient(fleet.grpcTarget));
});

after(() => stack.disposeAsync());

const body = Buffer.from("any bytes \u0000 at all");

async function call(headers: Record<string, string>, path = predict, message: Uint8Array = body) {
  const before = seen.length;
  const answer = await grpc.call(path, frameOf(message), headers);
  return { ...answer, reached: seen.slice(before) };
}

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const ways: [headers: Record<string, string>, model: string][] = [
  [{ "mm-model-id": "one" }, "one"],
  [{ "mm-vmodel-id": "two" }, "two"],
  [{ "mm-model-id-bin": base64("three") }, "three"],
  [{ "mm-vmodel-id-bin": base64("four").replaceAll("=", "") }, "four"],
];

for (const [headers, model] of ways) {
  test(`${JSON.stringify(headers)} names ${model}, cold and warm`, async () => {
    for (let attempt = 0; attempt < 3; attempt++) {
      const answer = await call(headers);
      assert.equal(answer.status, status.OK, answer.message);
      assert.deepEqual(answer.reached, [{ method: predict, model, others: [], body }]);
    }
  });
}

const refused: [what: string, headers: Record<string, string>, path: string, code: number][] = [
  ["both kinds of header", { "mm-model-id": "one", "mm-vmodel-id": "two" }, predict, status.INVALID_ARGUMENT],
  ["no header", {}, predict, status.INVALID_ARGUMENT],
  ["an unknown model", { "mm-model-id": "nope" }, predict, status.NOT_FOUND],
  ["a name that is none", { "mm-model-id": "a/b" }, predict, status.INVALID_ARGUMENT],
  ["a binary name that is no base64", { "mm-model-id-bin": "!!" }, predict, status.INVALID_ARGUMENT],
  [
    "a spoofed name",
    { "x-warm-model": "one", "x-warm-public-name": "one", "x-warm-load-ms": "1" },
    predict,
    status.INVALID_ARGUMENT,
  ],
  ["the model server's repository", { "mm-model-id": "one" }, inferencePath("RepositoryModelUnload"), status.UNIMPLEMENTED],
  ["the runtime's own service", { "mm-model-id": "one" }, "/mmesh.ModelRuntime/unloadModel", status.UNIMPLEMENTED],
  ["a path of three parts", { "mm-model-id": "one" }, "/v2/models/one", status.INVALID_ARGUMENT],
];

for (const [what, headers, path, code] of refused) {
  test(`${what} is refused and reaches no model server`, async () => {
    const answer = await call(headers, path);
    assert.deepEqual([answer.status, answer.reached], [code, []], answer.message);
  });
}

test("a header wins over the name in a V2 message, which is made to agree", async () => {
  for (let attempt = 0; attempt < 2; attempt++) {
    const message = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: "another", id: "7" }));
    const answer = await call({ "mm-model-id": "one" }, inferencePath("ModelInfer"), message);
    assert.equal(answer.status, status.OK, answer.message);
    const { modelName, id } = fromBinary(ModelInferRequestSchema, answer.reached[0]!.body);
    assert.deepEqual([modelName, id], ["one", "7"]);
  }
});
