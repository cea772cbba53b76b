// ModelMesh's management over a fleet of two gateways: what one of them is told, both know and serve.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { create, toBinary } from "@bufbuild/protobuf";
import { createRandom } from "#cli/library/random.ts";
import { buildInferRequest } from "#cli/traffic/grpc.ts";
import { createClient } from "#platform/grpc.ts";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import {
  GetStatusRequestSchema,
  GetVModelStatusRequestSchema,
  ModelMesh,
  ModelStatusInfo_ModelStatus as ModelStatus,
  RegisterModelRequestSchema,
  SetVModelRequestSchema,
  UnregisterModelRequestSchema,
} from "#proto/gen/mmesh/model_mesh_pb.ts";
import { openEtcd } from "../harness/etcd.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
const options = { timeoutMs: 30_000 };
const source = "iris-t0001";
const other = "iris-t0002";
let fleet: TestFleet;

before(async () => {
  const etcd = stack.use(await openEtcd());
  fleet = stack.use(await openFleet({ etcd, gateways: 2, pods: 2, modelmesh: true }));
});

after(() => stack.disposeAsync());

function mesh(gateway: number) {
  const port = fleet.gateways[gateway]?.modelmeshPort;
  return stack.use(createClient(ModelMesh, `127.0.0.1:${port}`));
}

const infoOf = (model: string) => ({
  type: "onnx",
  path: pathToFileURL(join(fleet.libraryFolder, `models/iris/${model}.onnx`)).href,
});

/** The gRPC status of an inference through this gateway's Envoy, the model named in this header. */
async function infer(gateway: number, header: string, name: string): Promise<number | undefined> {
  await using client = await openGrpcClient(fleet.gateways[gateway]?.grpcTarget ?? "");
  const { body } = fleet.oracle.sampleCase(source, createRandom("mesh"));
  const message = toBinary(ModelInferRequestSchema, buildInferRequest("", body, "raw"));
  const answer = await client.call(inferencePath("ModelInfer"), frameOf(message), { [header]: name });
  return answer.status;
}

test("a model that is registered at one gateway is loaded, told of and served by both", async () => {
  const [one, two] = [mesh(0), mesh(1)];
  const status = await one.registerModel(
    create(RegisterModelRequestSchema, { modelId: "mine", modelInfo: infoOf(source), loadNow: true, sync: true }),
    options,
  );
  assert.equal(status.status, ModelStatus.LOADED);
  await waitUntil(
    "the other gateway knows it",
    () => two.getModelStatus(create(GetStatusRequestSchema, { modelId: "mine" }), options),
    (seen) => seen.status === ModelStatus.LOADED,
  );
  for (const gateway of [0, 1]) assert.equal(await infer(gateway, "mm-model-id", "mine"), 0);
});

test("a vmodel that is set at one gateway is served and moved by the other", async () => {
  const [one, two] = [mesh(0), mesh(1)];
  const set = (target: string) =>
    create(SetVModelRequestSchema, {
      vModelId: "alias",
      targetModelId: target,
      modelInfo: infoOf(target === "first" ? source : other),
      autoDeleteTargetModel: true,
      loadNow: true,
      sync: true,
    });
  await two.setVModel(set("first"), options);
  for (const gateway of [0, 1]) {
    await waitUntil(
      `gateway ${gateway} serves it`,
      () => infer(gateway, "mm-vmodel-id", "alias"),
      (code) => code === 0,
    );
  }
  await one.setVModel(set("second"), options);
  for (const client of [one, two]) {
    await waitUntil(
      "the move is known",
      () => client.getVModelStatus(create(GetVModelStatusRequestSchema, { vModelId: "alias" }), options),
      (seen) => seen.activeModelId === "second",
    );
  }
  for (const gateway of [0, 1]) assert.equal(await infer(gateway, "mm-vmodel-id", "alias"), 0);
});

test("a model that is unregistered at one gateway is not found at the other", async () => {
  await mesh(1).unregisterModel(create(UnregisterModelRequestSchema, { modelId: "mine" }), options);
  for (const gateway of [0, 1]) {
    await waitUntil(
      `gateway ${gateway} does not know it`,
      () => infer(gateway, "mm-model-id", "mine"),
      (code) => code === 5,
    );
  }
});
