// What the predecessor's objects ask for is served: each from its creation over its changes to its end. A real API server and a
// real fleet of this machine.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { waitUntil } from "../harness/wait.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildInferenceService, buildPredictor } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";
import { isLoaded, openServed, type Served, waitMs } from "./harness/served.ts";

const skip = whyNoControlPlane() ?? false;

describe("models as objects", { skip }, () => {
  let it: Served;
  before(async () => {
    it = await openServed();
  });
  after(() => it?.[Symbol.asyncDispose]());

  test("life cycle: an InferenceService is loaded, answers, and is gone with its object", async () => {
    await it.plane.kubectl.apply(buildInferenceService("first", it.artefact("iris-t0001")));
    const status = await it.until("isvc", "first", "is loaded", isLoaded);
    assert.deepEqual(status.components.predictor, {
      grpcUrl: "grpc://modelmesh-serving.default:8033",
      restUrl: "http://modelmesh-serving.default:8008",
      url: "grpc://modelmesh-serving.default:8033",
    });
    assert.equal(status.modelStatus.copies.failedCopies, 0);
    assert.equal(status.modelStatus.lastFailureInfo, undefined);
    assert.equal(status.observedGeneration, 1);
    const conditions = Object.fromEntries(status.conditions.map((each: { type: string }) => [each.type, each]));
    assert.deepEqual(Object.keys(conditions).sort(), ["PredictorReady", "Ready", "RuntimeSelected"]);
    assert.equal(conditions["Ready"].status, "True");
    assert.match(conditions["RuntimeSelected"].message, /runtime onnx serves onnx/);
    assert.equal(await it.infer("first"), 200);
    await it.plane.kubectl("delete", "isvc", "first");
    await waitUntil(
      "it answers 404",
      () => it.infer("first"),
      (code) => code === 404,
      waitMs,
    );
  });

  test("several at once are each loaded and answer, and one that goes takes no other along", async () => {
    const names = ["many-1", "many-2", "many-3", "many-4"];
    await Promise.all(
      names.map((name, at) => it.plane.kubectl.apply(buildInferenceService(name, it.artefact(`iris-t000${at + 1}`)))),
    );
    await Promise.all(names.map((name) => it.until("isvc", name, "is loaded", isLoaded)));
    assert.deepEqual(await Promise.all(names.map((name) => it.infer(name))), [200, 200, 200, 200]);
    await it.plane.kubectl("delete", "isvc", "many-1");
    await it.untilRegistered("many-1", 404);
    assert.equal(await it.infer("many-2"), 200);
  });

  test("an InferenceService of another deployment mode is left alone", async () => {
    const other = JSON.parse(buildInferenceService("other-mode", it.artefact("iris-t0001")));
    other.metadata.annotations = { "serving.kserve.io/deploymentMode": "Standard" };
    await it.plane.kubectl.apply(JSON.stringify(other));
    await it.plane.kubectl.apply(buildInferenceService("beside", it.artefact("iris-t0001")));
    await it.until("isvc", "beside", "is loaded", isLoaded);
    assert.deepEqual(await it.statusOf("isvc", "other-mode"), {});
    assert.equal(await it.registered("other-mode"), 404);
  });

  test("a legacy framework block with protocolVersion grpc-v2 is loaded", async () => {
    const object = JSON.parse(buildInferenceService("legacy", ""));
    object.spec.predictor = { onnx: { storageUri: it.artefact("iris-t0002"), protocolVersion: "grpc-v2" } };
    await it.plane.kubectl.apply(JSON.stringify(object));
    await it.until("isvc", "legacy", "is loaded", isLoaded);
  });

  test("an update loads beside the old one, and the name moves when it is loaded", async () => {
    await it.plane.kubectl.apply(buildInferenceService("updated", it.artefact("iris-t0001")));
    await it.until("isvc", "updated", "is loaded", isLoaded);
    const before = (await it.fleet.manage("GET", "/api/v1/models/updated")).json as KubeValue;
    assert.match(before.active, /^updated__isvc-[0-9a-f]{10}$/);
    await it.plane.kubectl.apply(buildInferenceService("updated", it.artefact("iris-t0002")));
    await it.until("isvc", "updated", "is loaded anew", (status) => isLoaded(status) && status.observedGeneration === 2);
    const changed = await waitUntil(
      "the pointer has moved",
      async () => (await it.fleet.manage("GET", "/api/v1/models/updated")).json as KubeValue,
      (model) => model.active !== before.active && (model.target ?? undefined) === undefined,
      waitMs,
    );
    assert.match(changed.active, /^updated__isvc-[0-9a-f]{10}$/);
    assert.equal(await it.infer("updated"), 200);
    // Back: the same content is the same revision.
    await it.plane.kubectl.apply(buildInferenceService("updated", it.artefact("iris-t0001")));
    await waitUntil(
      "the first revision is back",
      async () => (await it.fleet.manage("GET", "/api/v1/models/updated")).json as KubeValue,
      (model) => model.active === before.active && (model.target ?? undefined) === undefined,
      waitMs,
    );
    await it.until("isvc", "updated", "is loaded", isLoaded);
  });

  test("a Predictor is readable at once: its status begins with the default", async () => {
    await it.stopController();
    await it.plane.kubectl.apply(buildPredictor("fresh", { storage: { path: "a" } }));
    assert.deepEqual(await it.statusOf("predictor", "fresh"), {
      activeModelState: "Pending",
      available: false,
      failedCopies: 0,
      targetModelState: "",
      totalCopies: 0,
      transitionStatus: "UpToDate",
    });
    await it.plane.kubectl("delete", "predictor", "fresh");
    await it.startController();
  });

  test("a name stands for one object: the second kind of the same name is told who has it", async () => {
    await it.plane.kubectl.apply(buildInferenceService("shared", it.artefact("iris-t0001")));
    await it.until("isvc", "shared", "is loaded", isLoaded);
    await it.plane.kubectl.apply(buildPredictor("shared", { storage: { path: "a" } }));
    const status = await it.until("predictor", "shared", "is invalid", (seen) => seen.transitionStatus === "InvalidSpec");
    assert.match(status.lastFailureInfo.message, /taken by the InferenceService of the same name/);
    assert.equal(isLoaded(await it.statusOf("isvc", "shared")), true);
  });

  test("what the management API registered is not taken away, and keeps its name", async () => {
    await it.fleet.register("by-hand", it.artefact("iris-t0001"));
    await it.plane.kubectl.apply(buildInferenceService("by-hand", it.artefact("iris-t0002")));
    const status = await it.until(
      "isvc",
      "by-hand",
      "is invalid",
      (seen) => seen.modelStatus?.transitionStatus === "InvalidSpec",
    );
    assert.match(status.modelStatus.lastFailureInfo.message, /taken by the management API/);
    await it.plane.kubectl("delete", "isvc", "by-hand");
    await it.plane.kubectl.apply(buildInferenceService("after-that", it.artefact("iris-t0001")));
    await it.until("isvc", "after-that", "is loaded", isLoaded);
    assert.equal(await it.registered("by-hand"), 200);
  });

  test("what is deleted is gone, though another one's finalizer still holds its object", async () => {
    const object = JSON.parse(buildInferenceService("held", it.artefact("iris-t0001")));
    object.metadata.finalizers = ["example.com/hold"];
    await it.plane.kubectl.apply(JSON.stringify(object));
    await it.until("isvc", "held", "is loaded", isLoaded);
    await it.plane.kubectl("delete", "isvc", "held", "--wait=false");
    await it.untilRegistered("held", 404);
    await it.plane.kubectl("patch", "isvc", "held", "--type=json", '--patch=[{"op":"remove","path":"/metadata/finalizers"}]');
    await waitUntil(
      "the object is gone",
      () => it.plane.kubectl.get("isvc", "held"),
      (seen) => seen === undefined,
      waitMs,
    );
  });

  test("what is deleted while no controller runs is gone once one does", async () => {
    await it.plane.kubectl.apply(buildInferenceService("orphan", it.artefact("iris-t0001")));
    await it.until("isvc", "orphan", "is loaded", isLoaded);
    await it.stopController();
    await it.plane.kubectl("delete", "isvc", "orphan");
    assert.equal(await it.registered("orphan"), 200);
    await it.startController();
    await it.untilRegistered("orphan", 404);
  });

  test("our own Model: several revisions, one active, shares of the others", async () => {
    const revision = (name: string, model: string): Readonly<Record<string, unknown>> => ({
      name,
      format: "onnx",
      storageUri: it.artefact(model),
      size: "1Mi",
    });
    const model = (spec: Readonly<Record<string, unknown>>): string =>
      JSON.stringify({ apiVersion: "warmpath.dev/v1alpha1", kind: "Model", metadata: { name: "ours" }, spec });
    const revisions = [revision("v1", "iris-t0001"), revision("v2", "iris-t0002")];
    await it.plane.kubectl.apply(
      model({ revisions, active: "v1", split: [{ revision: "v2", percent: 25 }], maxCopies: 2, priority: "high" }),
    );
    const status = await it.until("model", "ours", "is loaded", (seen) => seen.activeState === "Loaded");
    assert.equal(status.url, "http://modelmesh-serving.default:8008/v2/models/ours/infer");
    const record = (await it.fleet.manage("GET", "/api/v1/models/ours")).json as KubeValue;
    assert.match(record.active, /^v1-[0-9a-f]{10}$/);
    assert.equal(record.split[0].percent, 25);
    assert.match(record.split[0].revision, /^v2-/);
    assert.equal(record.priority, "high");
    assert.equal(record.revisions[0].sizeHintBytes, 2 ** 20);
    assert.equal(await it.infer("ours"), 200);
    await it.plane.kubectl.apply(model({ revisions, active: "v2" }));
    await waitUntil(
      "v2 is active",
      () => it.statusOf("model", "ours"),
      (seen) => String(seen.active).startsWith("v2-") && seen.transition === "UpToDate",
      waitMs,
    );
    await it.plane.kubectl("delete", "model", "ours");
    await it.untilRegistered("ours", 404);
  });

  test("an API server that is killed and comes back is gone on with", async () => {
    await it.plane.restartApi();
    await it.plane.kubectl.apply(buildInferenceService("after-restart", it.artefact("iris-t0001")));
    await it.until("isvc", "after-restart", "is loaded", isLoaded);
    await it.plane.kubectl("delete", "isvc", "after-restart");
    await it.untilRegistered("after-restart", 404);
  });
});
