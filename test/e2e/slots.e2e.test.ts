// A revision in a slot has another name on the model server; clients see the public one, in requests and answers alike.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { create, toBinary } from "@bufbuild/protobuf";
import { Client, request } from "undici";
import { parseModel } from "#core/model.ts";
import { createClient, type ServiceClient } from "#platform/grpc.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { putModel } from "#platform/registry/records.ts";
import {
  GRPCInferenceService,
  ModelInferRequestSchema,
  ModelMetadataRequestSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let grpc: ServiceClient<typeof GRPCInferenceService>;
const row = [5.1, 3.5, 1.4, 0.2];
const slot = 3;

before(async () => {
  fleet = stack.use(await openFleet({ pods: 1 }));
  grpc = stack.use(createClient(GRPCInferenceService, fleet.grpcTarget));
  await using registry = await openRegistry({ kind: "embedded", file: fleet.registryFile });
  for (let at = 1; at <= 6; at++) {
    const storageUri = pathToFileURL(join(fleet.libraryFolder, "models/iris/iris-t0001.onnx")).href;
    const parsed = parseModel({
      name: `slotted-${at}`,
      revisions: [{ id: "r2", slot, format: "onnx", storageUri }],
      active: "r2",
    });
    assert.equal(parsed.kind, "ok");
    if (parsed.kind === "ok") await putModel(registry, parsed.model);
  }
  await waitUntil(
    "slotted-6 is known",
    () => fleet.manage("GET", "/api/v1/models/slotted-6"),
    ({ status }) => status === 200,
  );
});

after(() => stack.disposeAsync());

async function post(path: string, body: unknown): Promise<{ status: number; body: Record<string, unknown>; waited: boolean }> {
  const answer = await request(`${fleet.restUrl}${path}`, { method: "POST", body: JSON.stringify(body) });
  return {
    status: answer.statusCode,
    body: (await answer.body.json()) as Record<string, unknown>,
    waited: answer.headers["x-warm-load-ms"] !== undefined,
  };
}

const v2 = { inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: row }] };
const inputs = [{ name: "x", shape: [1n, 4n], datatype: "FP32", contents: { fp32Contents: row } }];
const infer = (modelName: string, extra = {}) =>
  grpc.modelInfer(create(ModelInferRequestSchema, { modelName, inputs, ...extra }), { timeoutMs: 20_000 });

/** Does what a client would not see: the model server loses the model behind its adapter's back. */
async function forget(model: string): Promise<void> {
  const client = new Client("http://localhost", { socketPath: join(fleet.runFolder, "pod-0.sock") });
  try {
    const path = `/v2/repository/models/${model}~${slot}/unload`;
    const headers = { "content-type": "application/json" };
    const { statusCode, body } = await client.request({ method: "POST", path, headers, body: "{}" });
    assert.equal(statusCode, 200, await body.text());
  } finally {
    await client.destroy();
  }
}

test("V2 REST, cold and warm", async () => {
  for (const waited of [true, false]) {
    const answer = await post("/v2/models/slotted-1/infer", v2);
    assert.deepEqual(
      [answer.status, answer.waited, answer.body["model_name"]],
      [200, waited, "slotted-1"],
      JSON.stringify(answer.body),
    );
    await waitUntil(
      "it is routed",
      () => fleet.manage("GET", "/api/v1/models/slotted-1"),
      ({ text }) => text.includes('"acknowledged":true'),
    );
  }
});

test("V1 REST, cold and warm", async () => {
  for (const waited of [true, false]) {
    const answer = await post("/v1/models/slotted-2:predict", { instances: [row] });
    assert.deepEqual([answer.status, answer.waited], [200, waited], JSON.stringify(answer.body));
    await waitUntil(
      "it is routed",
      () => fleet.manage("GET", "/api/v1/models/slotted-2"),
      ({ text }) => text.includes('"acknowledged":true'),
    );
  }
});

test("gRPC, cold and warm, whatever else the message holds", async () => {
  for (const extra of [
    {},
    { id: "7" },
    { modelVersion: "1", rawInputContents: [] },
    { parameters: { long: { parameterChoice: { case: "stringParam" as const, value: "x".repeat(200_000) } } } },
  ]) {
    const answer = await infer("slotted-3", extra);
    assert.equal(answer.modelName, "slotted-3");
    assert.equal(answer.outputs[0]?.name, "label");
  }
  const metadata = await grpc.modelMetadata(create(ModelMetadataRequestSchema, { name: "slotted-3" }), { timeoutMs: 60_000 });
  assert.equal(metadata.name, "slotted-3");
});

test("what a pod has forgotten is found again, by REST and gRPC", async () => {
  assert.equal((await post("/v2/models/slotted-4/infer", v2)).status, 200);
  await forget("slotted-4");
  assert.equal((await post("/v2/models/slotted-4/infer", v2)).status, 200);
  await forget("slotted-4");
  assert.equal((await post("/v1/models/slotted-4:predict", { instances: [row] })).status, 200);
  assert.equal((await infer("slotted-5")).modelName, "slotted-5");
  await forget("slotted-5");
  assert.equal((await infer("slotted-5")).modelName, "slotted-5");
});

test("a client that claims to be a hedge of Envoy's own waits for its model like any other", async () => {
  await using raw = await openGrpcClient(fleet.grpcTarget);
  const message = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: "slotted-6", inputs }));
  for (const _ of ["cold", "warm"]) {
    const answer = await raw.call(inferencePath("ModelInfer"), frameOf(message), { "x-envoy-is-timeout-retry": "true" });
    assert.equal(answer.status, 0, answer.message);
  }
});

test("the name on the model server is no client's to use", async () => {
  const refused = await post(`/v2/models/slotted-1~${slot}/infer`, v2);
  assert.equal(refused.status, 400, JSON.stringify(refused.body));
  await assert.rejects(infer(`slotted-1~${slot}`), /INVALID_ARGUMENT.*'~'/);
});

test("route configurations number sets and slots, not models", async () => {
  const dump = await fleet.envoyConfig("dynamic_route_configs");
  const names = new Set([...dump.matchAll(/"name": "(set-[0-9a-f]+-s\d+)"/g)].map(([, name]) => name));
  assert.deepEqual([...names].map((name) => name!.replace(/.*-/, "")).toSorted(), ["s0", `s${slot}`]);
});
