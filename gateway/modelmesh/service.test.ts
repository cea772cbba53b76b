// Each documented behaviour of ModelMesh's management, and each defect not to repeat, as a test by its name.
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { status as code, type ServiceError } from "@grpc/grpc-js";
import { createClient } from "#platform/grpc.ts";
import { waitFor } from "#platform/testing.ts";
import {
  DeleteVModelRequestSchema,
  EnsureLoadedRequestSchema,
  GetStatusRequestSchema,
  GetVModelStatusRequestSchema,
  ModelMesh,
  ModelStatusInfo_ModelStatus as ModelStatus,
  type ModelStatusInfo,
  RegisterModelRequestSchema,
  SetVModelRequestSchema,
  UnregisterModelRequestSchema,
  VModelStatusInfo_VModelStatus as VModelStatus,
  type VModelStatusInfo,
} from "#proto/gen/mmesh/model_mesh_pb.ts";
import { type AdminBench, openAdminBench } from "../admin/testing.ts";

interface Mesh extends AsyncDisposable {
  readonly bench: AdminBench;
  register(more: MessageInitShape<typeof RegisterModelRequestSchema>): Promise<ModelStatusInfo>;
  unregister(modelId: string): Promise<unknown>;
  status(modelId: string): Promise<ModelStatusInfo>;
  ensure(modelId: string, sync?: boolean): Promise<ModelStatusInfo>;
  set(more: MessageInitShape<typeof SetVModelRequestSchema>): Promise<VModelStatusInfo>;
  delete(vModelId: string, owner?: string): Promise<unknown>;
  vstatus(vModelId: string, owner?: string): Promise<VModelStatusInfo>;
}

const timeoutMs = 30_000;
const good = { type: "onnx", path: "file:///good.onnx" };
const other = { type: "onnx", path: "file:///other.onnx" };
const bad = { type: "onnx", path: "file:///bad.onnx" };
const never = { type: "onnx", path: "file:///never.onnx" };

async function openMesh(pods = 2): Promise<Mesh> {
  const bench = await openAdminBench({ pods });
  const client = createClient(ModelMesh, bench.modelmeshTarget);
  const options = { timeoutMs };
  return {
    bench,
    register: (more) => client.registerModel(create(RegisterModelRequestSchema, more), options),
    unregister: (modelId) => client.unregisterModel(create(UnregisterModelRequestSchema, { modelId }), options),
    status: (modelId) => client.getModelStatus(create(GetStatusRequestSchema, { modelId }), options),
    ensure: (modelId, sync = false) => client.ensureLoaded(create(EnsureLoadedRequestSchema, { modelId, sync }), options),
    set: (more) => client.setVModel(create(SetVModelRequestSchema, more), options),
    delete: (vModelId, owner = "") => client.deleteVModel(create(DeleteVModelRequestSchema, { vModelId, owner }), options),
    vstatus: (vModelId, owner = "") => client.getVModelStatus(create(GetVModelStatusRequestSchema, { vModelId, owner }), options),
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
      await bench[Symbol.asyncDispose]();
    },
  };
}

async function codeOf(call: Promise<unknown>): Promise<number> {
  try {
    await call;
    return code.OK;
  } catch (error) {
    return (error as ServiceError).code;
  }
}

test("registering the same again is well, other attributes are ALREADY_EXISTS", async () => {
  await using mesh = await openMesh();
  assert.equal((await mesh.register({ modelId: "m", modelInfo: good })).status, ModelStatus.NOT_LOADED);
  assert.equal((await mesh.register({ modelId: "m", modelInfo: good })).status, ModelStatus.NOT_LOADED);
  assert.equal(await codeOf(mesh.register({ modelId: "m", modelInfo: other })), code.ALREADY_EXISTS);
});

test("an empty id, an empty type, a missing info and an id that cannot be are INVALID_ARGUMENT", async () => {
  await using mesh = await openMesh();
  const calls = [
    mesh.register({ modelId: "", modelInfo: good }),
    mesh.register({ modelId: "m", modelInfo: { type: "", path: "x" } }),
    mesh.register({ modelId: "m" }),
    mesh.register({ modelId: "a/b", modelInfo: good }),
    mesh.status(""),
    mesh.ensure(""),
    mesh.unregister(""),
    mesh.set({ vModelId: "", targetModelId: "m" }),
    mesh.set({ vModelId: "v", targetModelId: "" }),
    mesh.set({ vModelId: "v", targetModelId: "v", modelInfo: good }),
    mesh.vstatus(""),
    mesh.delete(""),
  ];
  assert.deepEqual(new Set(await Promise.all(calls.map(codeOf))), new Set([code.INVALID_ARGUMENT]));
});

test("loadNow with sync answers when the model is loaded, with its copy and the time", async () => {
  await using mesh = await openMesh();
  const beforeMs = Date.now();
  const { status, errors, modelCopyInfos } = await mesh.register({ modelId: "m", modelInfo: good, loadNow: true, sync: true });
  assert.deepEqual([status, errors], [ModelStatus.LOADED, []]);
  // A live copy is LOADED, not UNKNOWN.
  assert.deepEqual(
    modelCopyInfos.map(({ copyStatus }) => copyStatus),
    [ModelStatus.LOADED],
  );
  assert.match(modelCopyInfos[0]!.location, /^pod-\d$/);
  assert.ok(Number(modelCopyInfos[0]!.time) >= beforeMs - 1_000 && Number(modelCopyInfos[0]!.time) <= Date.now() + 1_000);
});

test("a load that fails is a status with its error, not an error of the call, and the same when asked again", async () => {
  await using mesh = await openMesh();
  const first = await mesh.register({ modelId: "m", modelInfo: bad, loadNow: true, sync: true });
  assert.equal(first.status, ModelStatus.LOADING_FAILED);
  assert.deepEqual(first.errors, ["the artefact is bad"]);
  assert.equal(first.modelCopyInfos.length, 1);
  assert.deepEqual([(await mesh.status("m")).status, (await mesh.status("m")).errors], [first.status, first.errors]);
});

test("loadNow without sync answers at once", async () => {
  await using mesh = await openMesh();
  await mesh.register({ modelId: "m", modelInfo: never, loadNow: true });
  await waitFor(async () => (await mesh.status("m")).status === ModelStatus.LOADING);
});

test("a sync wait ends with the caller's deadline, not with a limit of its own", async () => {
  await using mesh = await openMesh();
  await mesh.register({ modelId: "m", modelInfo: never });
  using client = createClient(ModelMesh, mesh.bench.modelmeshTarget);
  const waiting = client.ensureLoaded(create(EnsureLoadedRequestSchema, { modelId: "m", sync: true }), { timeoutMs: 1_500 });
  const answered = await waiting.catch((error: ServiceError) => error.code);
  assert.ok(answered === code.DEADLINE_EXCEEDED || (typeof answered === "object" && answered.status === ModelStatus.LOADING));
});

test("unregistering what is not there is no error", async () => {
  await using mesh = await openMesh();
  assert.equal(await codeOf(mesh.unregister("nope")), code.OK);
  await mesh.register({ modelId: "m", modelInfo: good, loadNow: true, sync: true });
  await mesh.unregister("m");
  assert.equal((await mesh.status("m")).status, ModelStatus.NOT_FOUND);
  // Holders give the room back.
  await waitFor(() => [...mesh.bench.fleet.holders("m")].length === 0);
});

test("an unknown model has the status NOT_FOUND and no errors", async () => {
  await using mesh = await openMesh();
  const { status, errors } = await mesh.status("nope");
  assert.deepEqual([status, errors], [ModelStatus.NOT_FOUND, []]);
  assert.equal((await mesh.ensure("nope", true)).status, ModelStatus.NOT_FOUND);
});

test("hidden ids tell nothing of the cluster", async () => {
  await using mesh = await openMesh();
  for (const id of ["***LOGCACHE***", "***GETSTATE***"]) {
    const { status, errors, modelCopyInfos } = await mesh.status(id);
    assert.deepEqual([status, errors, modelCopyInfos], [ModelStatus.NOT_FOUND, [], []]);
  }
});

test("ensureLoaded loads a first copy, and no second one", async () => {
  await using mesh = await openMesh();
  await mesh.register({ modelId: "m", modelInfo: good });
  assert.equal((await mesh.ensure("m", true)).status, ModelStatus.LOADED);
  assert.equal((await mesh.ensure("m", true)).modelCopyInfos.length, 1);
});

test("a vmodel is made with its target inline, and both are there", async () => {
  await using mesh = await openMesh();
  const made = await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, owner: "isvc" });
  assert.deepEqual([made.status, made.activeModelId, made.targetModelId, made.owner], [VModelStatus.DEFINED, "c1", "c1", "isvc"]);
  assert.equal(made.targetModelStatus, undefined);
  assert.equal((await mesh.status("c1")).status, ModelStatus.NOT_LOADED);
});

test("a target that is neither registered nor given is NOT_FOUND, and leaves nothing behind", async () => {
  await using mesh = await openMesh();
  assert.equal(await codeOf(mesh.set({ vModelId: "v", targetModelId: "c1" })), code.NOT_FOUND);
  assert.equal((await mesh.vstatus("v")).status, VModelStatus.NOT_FOUND);
});

test("a target that is registered with other attributes is ALREADY_EXISTS", async () => {
  await using mesh = await openMesh();
  await mesh.register({ modelId: "c1", modelInfo: good });
  assert.equal(await codeOf(mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: other })), code.ALREADY_EXISTS);
});

test("updateOnly on a vmodel that is not there is NOT_FOUND, and registers no target", async () => {
  await using mesh = await openMesh();
  assert.equal(await codeOf(mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, updateOnly: true })), code.NOT_FOUND);
  assert.equal((await mesh.status("c1")).status, ModelStatus.NOT_FOUND);
});

test("a referenced model cannot be unregistered; when its vmodel is gone it can", async () => {
  await using mesh = await openMesh();
  await mesh.register({ modelId: "c1", modelInfo: good });
  await mesh.set({ vModelId: "v", targetModelId: "c1" });
  assert.equal(await codeOf(mesh.unregister("c1")), code.FAILED_PRECONDITION);
  await mesh.delete("v");
  assert.equal(await codeOf(mesh.unregister("c1")), code.OK);
  assert.equal((await mesh.status("c1")).status, ModelStatus.NOT_FOUND);
});

test("setting the same target again changes nothing", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good });
  const again = await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good });
  assert.deepEqual([again.status, again.activeModelId], [VModelStatus.DEFINED, "c1"]);
});

test("a retarget with sync ends DEFINED and LOADED", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, loadNow: true, sync: true });
  const moved = await mesh.set({ vModelId: "v", targetModelId: "c2", modelInfo: other, sync: true });
  assert.deepEqual([moved.status, moved.activeModelId, moved.targetModelId], [VModelStatus.DEFINED, "c2", "c2"]);
  assert.equal(moved.activeModelStatus?.status, ModelStatus.LOADED);
});

test("an asynchronous retarget shows both, the target loading and the active one loaded", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, loadNow: true, sync: true });
  await mesh.set({ vModelId: "v", targetModelId: "c2", modelInfo: never });
  await waitFor(async () => (await mesh.vstatus("v")).targetModelStatus?.status === ModelStatus.LOADING);
  const seen = await mesh.vstatus("v");
  assert.deepEqual([seen.status, seen.activeModelId, seen.targetModelId], [VModelStatus.TRANSITIONING, "c1", "c2"]);
  assert.equal(seen.activeModelStatus?.status, ModelStatus.LOADED);
});

test("a target is loaded to as many copies as the active model before the flip, not to one", async () => {
  await using mesh = await openMesh(3);
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good });
  const signal = AbortSignal.timeout(timeoutMs);
  await mesh.bench.models.load("v", { copies: 3, wait: true, timeoutMs, signal });
  await mesh.set({ vModelId: "v", targetModelId: "c2", modelInfo: other });
  await waitFor(async () => (await mesh.vstatus("v")).activeModelId === "c2");
  const loaded = (await mesh.vstatus("v")).activeModelStatus!.modelCopyInfos.filter(
    ({ copyStatus }) => copyStatus === ModelStatus.LOADED,
  );
  assert.equal(loaded.length, 3);
});

test("a target that fails is TRANSITION_FAILED with its errors, and the active model serves on", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, loadNow: true, sync: true });
  const failed = await mesh.set({ vModelId: "v", targetModelId: "c2", modelInfo: bad, sync: true });
  assert.deepEqual([failed.status, failed.activeModelId, failed.targetModelId], [VModelStatus.TRANSITION_FAILED, "c1", "c2"]);
  assert.equal(failed.targetModelStatus?.status, ModelStatus.LOADING_FAILED);
  assert.match(failed.targetModelStatus?.errors[0] ?? "", /the artefact is bad/);
  assert.equal(failed.activeModelStatus?.status, ModelStatus.LOADED);
});

test("without a loaded active model the pointer moves at once, and nothing is loaded", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good });
  const moved = await mesh.set({ vModelId: "v", targetModelId: "c2", modelInfo: other });
  assert.deepEqual([moved.status, moved.activeModelId], [VModelStatus.DEFINED, "c2"]);
  assert.equal(moved.activeModelStatus?.status, ModelStatus.NOT_LOADED);
  assert.deepEqual(mesh.bench.sent, []);
});

test("force moves the pointer at once", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, loadNow: true, sync: true });
  const forced = await mesh.set({ vModelId: "v", targetModelId: "c2", modelInfo: never, force: true });
  assert.deepEqual([forced.status, forced.activeModelId], [VModelStatus.DEFINED, "c2"]);
});

test("force on a target already in transition leaves no reference behind", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, loadNow: true, sync: true });
  const target = { vModelId: "v", targetModelId: "c2", modelInfo: never, autoDeleteTargetModel: true };
  await mesh.set(target);
  await mesh.set({ ...target, force: true });
  await mesh.set({ vModelId: "v", targetModelId: "c1", force: true });
  await waitFor(async () => (await mesh.status("c2")).status === ModelStatus.NOT_FOUND);
});

test("expectedTargetModelId: a wrong one is FAILED_PRECONDITION, on a vmodel that is there and one that is not", async () => {
  await using mesh = await openMesh();
  const set = (vModelId: string, targetModelId: string, expectedTargetModelId: string): Promise<number> =>
    codeOf(mesh.set({ vModelId, targetModelId, expectedTargetModelId, modelInfo: targetModelId === "c1" ? good : other }));
  assert.equal(await set("v", "c1", "c9"), code.FAILED_PRECONDITION);
  assert.equal(await set("v", "c1", "c1"), code.OK);
  assert.equal(await set("v", "c1", "c1"), code.OK);
  assert.equal(await set("v", "c2", "c9"), code.FAILED_PRECONDITION);
  assert.equal(await set("v", "c2", "c2"), code.FAILED_PRECONDITION);
  assert.equal(await set("v", "c2", "c1"), code.OK);
});

test("another owner is ALREADY_EXISTS to set, and not there to get and delete", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, owner: "isvc" });
  assert.equal(await codeOf(mesh.set({ vModelId: "v", targetModelId: "c1", owner: "ksp" })), code.ALREADY_EXISTS);
  const hidden = await mesh.vstatus("v", "ksp");
  assert.deepEqual(
    [hidden.status, hidden.activeModelId, hidden.activeModelStatus?.status],
    [VModelStatus.NOT_FOUND, "", ModelStatus.NOT_FOUND],
  );
  assert.equal(await codeOf(mesh.delete("v", "ksp")), code.OK);
  assert.equal((await mesh.vstatus("v", "isvc")).status, VModelStatus.DEFINED);
  await mesh.delete("v", "isvc");
  assert.equal((await mesh.vstatus("v")).status, VModelStatus.NOT_FOUND);
});

test("a target made to be deleted vanishes after the transition; others persist", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, autoDeleteTargetModel: true, loadNow: true, sync: true });
  await mesh.set({ vModelId: "v", targetModelId: "c2", modelInfo: other, sync: true });
  await waitFor(async () => (await mesh.status("c1")).status === ModelStatus.NOT_FOUND);
  await mesh.delete("v");
  assert.equal((await mesh.status("c2")).status, ModelStatus.NOT_LOADED);
});

test("a target that two vmodels share vanishes with the second", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v1", targetModelId: "c1", modelInfo: good, autoDeleteTargetModel: true });
  await mesh.set({ vModelId: "v2", targetModelId: "c1", modelInfo: good, autoDeleteTargetModel: true });
  await mesh.delete("v1");
  assert.equal((await mesh.status("c1")).status, ModelStatus.NOT_LOADED);
  await mesh.delete("v2");
  assert.equal((await mesh.status("c1")).status, ModelStatus.NOT_FOUND);
});

test("a model and a vmodel cannot have the same id", async () => {
  await using mesh = await openMesh();
  await mesh.register({ modelId: "x", modelInfo: good });
  assert.equal(await codeOf(mesh.set({ vModelId: "x", targetModelId: "c1", modelInfo: good })), code.ALREADY_EXISTS);
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good });
  assert.equal(await codeOf(mesh.register({ modelId: "v", modelInfo: good })), code.ALREADY_EXISTS);
  assert.equal((await mesh.status("v")).status, ModelStatus.NOT_FOUND);
});

test("the status of a concrete model counts the copies that its vmodel serves by", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, loadNow: true, sync: true });
  assert.equal((await mesh.status("c1")).status, ModelStatus.LOADED);
});

test("deleting a vmodel that is not there is no error", async () => {
  await using mesh = await openMesh();
  assert.equal(await codeOf(mesh.delete("nope")), code.OK);
});

test("a concrete model registered anew with other attributes never gets the old one's copies", async () => {
  await using mesh = await openMesh();
  await mesh.set({ vModelId: "v", targetModelId: "c1", modelInfo: good, autoDeleteTargetModel: true, loadNow: true, sync: true });
  await mesh.set({ vModelId: "v", targetModelId: "c2", modelInfo: other, sync: true });
  await waitFor(async () => (await mesh.status("c1")).status === ModelStatus.NOT_FOUND);
  const loads = mesh.bench.sent.filter((line) => line.endsWith("v@c1")).length;
  const set = await mesh.set({
    vModelId: "v",
    targetModelId: "c1",
    modelInfo: { ...good, key: '{"storage_key":"k"}' },
    sync: true,
  });
  assert.equal(set.activeModelId, "c1");
  assert.ok(mesh.bench.sent.filter((line) => line.endsWith("v@c1")).length > loads, mesh.bench.sent.join("\n"));
});
