// The controller over a real API server and a real fleet of this machine: what the predecessor's objects ask for is served,
// and their status says so in the predecessor's words.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";
import { openController, type TestController } from "./harness/controller.ts";
import { type ControlPlane, openControlPlane } from "./harness/controlplane.ts";
import { applyCrds } from "./harness/crds.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildInferenceService, buildPredictor, onnxRuntime } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const waitMs = 60_000;

describe("the controller", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let plane: ControlPlane;
  let fleet: TestFleet;
  let controller: TestController;

  const start = async (): Promise<TestController> => {
    const opened = await openController({
      kubeconfig: plane.kubeconfig,
      registryFile: fleet.registryFile,
      gatewayUrl: fleet.adminUrl,
    });
    await opened.synced;
    return opened;
  };
  before(async () => {
    plane = stack.use(await openControlPlane());
    await applyCrds(plane.kubectl);
    fleet = stack.use(await openFleet({ pods: 2 }));
    await fleet.whenServing();
    controller = await start();
    await plane.kubectl.apply(onnxRuntime());
  });
  after(async () => {
    await controller[Symbol.asyncDispose]();
    await stack.disposeAsync();
  });

  const artefact = (model: string): string =>
    pathToFileURL(join(fleet.libraryFolder, `models/${model.split("-")[0]}/${model}.onnx`)).href;
  const missing = (): string => pathToFileURL(join(fleet.libraryFolder, "models/iris/not-there.onnx")).href;
  const statusOf = async (kind: string, name: string): Promise<KubeValue> => (await plane.kubectl.get(kind, name))?.status ?? {};
  const until = (kind: string, name: string, what: string, holds: (status: KubeValue) => boolean): Promise<KubeValue> =>
    waitUntil(`${kind} ${name} ${what}`, () => statusOf(kind, name), holds, waitMs);
  const stateOf = (status: KubeValue): string => status.modelStatus?.states?.activeModelState;
  const isLoaded = (status: KubeValue): boolean =>
    stateOf(status) === "Loaded" && status.modelStatus.transitionStatus === "UpToDate";
  const infer = async (model: string): Promise<number> => {
    const body = { inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] };
    const answer = await fetch(`${fleet.restUrl}/v2/models/${model}/infer`, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json" },
    });
    await answer.text();
    return answer.status;
  };
  const registered = (name: string): Promise<number> =>
    fleet.manage("GET", `/api/v1/models/${name}`).then(({ status }) => status);

  test("life cycle: an InferenceService is loaded, answers, and is gone with its object", async () => {
    await plane.kubectl.apply(buildInferenceService("first", artefact("iris-t0001")));
    const status = await until("isvc", "first", "is loaded", isLoaded);
    assert.deepEqual(status.components.predictor, {
      grpcUrl: "grpc://modelmesh-serving.default:8033",
      restUrl: "http://modelmesh-serving.default:8008",
      url: "grpc://modelmesh-serving.default:8033",
    });
    assert.equal(status.modelStatus.copies.failedCopies, 0);
    assert.equal(status.modelStatus.lastFailureInfo, undefined);
    assert.equal(status.observedGeneration, 1);
    const conditions = Object.fromEntries(status.conditions.map((it: { type: string }) => [it.type, it]));
    assert.deepEqual(Object.keys(conditions).sort(), ["PredictorReady", "Ready", "RuntimeSelected"]);
    assert.equal(conditions["Ready"].status, "True");
    assert.match(conditions["RuntimeSelected"].message, /runtime onnx serves onnx/);
    assert.equal(await infer("first"), 200);
    await plane.kubectl("delete", "isvc", "first");
    await waitUntil(
      "it answers 404",
      () => infer("first"),
      (code) => code === 404,
      waitMs,
    );
  });

  test("an InferenceService of another deployment mode is left alone", async () => {
    const other = JSON.parse(buildInferenceService("other-mode", artefact("iris-t0001")));
    other.metadata.annotations = { "serving.kserve.io/deploymentMode": "Standard" };
    await plane.kubectl.apply(JSON.stringify(other));
    await plane.kubectl.apply(buildInferenceService("beside", artefact("iris-t0001")));
    await until("isvc", "beside", "is loaded", isLoaded);
    assert.deepEqual(await statusOf("isvc", "other-mode"), {});
    assert.equal(await registered("other-mode"), 404);
  });

  test("a legacy framework block with protocolVersion grpc-v2 is loaded", async () => {
    const object = JSON.parse(buildInferenceService("legacy", ""));
    object.spec.predictor = { onnx: { storageUri: artefact("iris-t0002"), protocolVersion: "grpc-v2" } };
    await plane.kubectl.apply(JSON.stringify(object));
    await until("isvc", "legacy", "is loaded", isLoaded);
  });

  test("an update loads beside the old one, and the name moves when it is loaded", async () => {
    await plane.kubectl.apply(buildInferenceService("updated", artefact("iris-t0001")));
    await until("isvc", "updated", "is loaded", isLoaded);
    const before = (await fleet.manage("GET", "/api/v1/models/updated")).json as KubeValue;
    assert.match(before.active, /^updated__isvc-[0-9a-f]{10}$/);
    await plane.kubectl.apply(buildInferenceService("updated", artefact("iris-t0002")));
    await until("isvc", "updated", "is loaded anew", (status) => isLoaded(status) && status.observedGeneration === 2);
    const changed = await waitUntil(
      "the pointer has moved",
      async () => (await fleet.manage("GET", "/api/v1/models/updated")).json as KubeValue,
      (model) => model.active !== before.active && (model.target ?? undefined) === undefined,
      waitMs,
    );
    assert.match(changed.active, /^updated__isvc-[0-9a-f]{10}$/);
    assert.equal(await infer("updated"), 200);
    // Back: the same content is the same revision.
    await plane.kubectl.apply(buildInferenceService("updated", artefact("iris-t0001")));
    await waitUntil(
      "the first revision is back",
      async () => (await fleet.manage("GET", "/api/v1/models/updated")).json as KubeValue,
      (model) => model.active === before.active && (model.target ?? undefined) === undefined,
      waitMs,
    );
    await until("isvc", "updated", "is loaded", isLoaded);
  });

  test("an update that cannot be loaded blocks, with the reason, and the old one serves on; going back ends it", async () => {
    await plane.kubectl.apply(buildInferenceService("blocked", artefact("iris-t0001")));
    await until("isvc", "blocked", "is loaded", isLoaded);
    await plane.kubectl.apply(buildInferenceService("blocked", missing()));
    const status = await until(
      "isvc",
      "blocked",
      "is blocked",
      (it) => it.modelStatus?.transitionStatus === "BlockedByFailedLoad",
    );
    assert.equal(status.modelStatus.states.activeModelState, "Loaded");
    assert.equal(status.modelStatus.states.targetModelState, "FailedToLoad");
    assert.equal(status.modelStatus.lastFailureInfo.reason, "ModelLoadFailed");
    assert.match(status.modelStatus.lastFailureInfo.modelRevisionName, /^blocked__isvc-/);
    assert.notEqual(status.modelStatus.lastFailureInfo.message, "");
    assert.equal(await infer("blocked"), 200);
    await plane.kubectl.apply(buildInferenceService("blocked", artefact("iris-t0001")));
    const after = await until("isvc", "blocked", "is as it was", isLoaded);
    assert.equal(after.modelStatus.lastFailureInfo, undefined);
  });

  test("a new one that cannot be loaded says so: FailedToLoad, ModelLoadFailed, where and when", async () => {
    await plane.kubectl.apply(buildInferenceService("failing", missing()));
    const status = await until("isvc", "failing", "has failed", (it) => stateOf(it) === "FailedToLoad");
    assert.equal(status.modelStatus.transitionStatus, "UpToDate");
    assert.equal(status.modelStatus.lastFailureInfo.reason, "ModelLoadFailed");
    assert.ok(Date.now() - Date.parse(status.modelStatus.lastFailureInfo.time) < 120_000);
    assert.equal(status.conditions.find(({ type }: { type: string }) => type === "Ready").status, "False");
    const events = await waitUntil(
      "the event",
      () => plane.kubectl("get", "events.events.k8s.io", "--output", "jsonpath={.items[?(@.regarding.name=='failing')].reason}"),
      (reasons) => reasons.includes("ModelLoadFailed"),
      waitMs,
    );
    assert.match(events, /ModelLoadFailed/);
    // It recovers by being corrected.
    await plane.kubectl.apply(buildInferenceService("failing", artefact("iris-t0001")));
    await until("isvc", "failing", "is loaded", isLoaded);
  });

  test("no runtime for the format, or none of the name: the predecessor's reasons", async () => {
    await plane.kubectl.apply(buildInferenceService("strange", artefact("iris-t0001"), { modelFormat: { name: "foo" } }));
    const strange = await until("isvc", "strange", "has failed", (it) => stateOf(it) === "FailedToLoad");
    assert.equal(strange.modelStatus.lastFailureInfo.reason, "NoSupportingRuntime");
    assert.equal(strange.modelStatus.lastFailureInfo.message, "No ServingRuntime supports specified model type and/or protocol");
    assert.equal(strange.modelStatus.lastFailureInfo.location, undefined);
    await plane.kubectl.apply(buildInferenceService("lost", artefact("iris-t0001"), { runtime: "not-there" }));
    const lost = await until("isvc", "lost", "has failed", (it) => stateOf(it) === "FailedToLoad");
    assert.equal(lost.modelStatus.lastFailureInfo.reason, "RuntimeNotRecognized");
    assert.equal(lost.modelStatus.lastFailureInfo.message, "Specified runtime name not recognized");
    assert.equal(await registered("strange"), 404);
    // A runtime that comes later takes it up.
    await plane.kubectl.apply(onnxRuntime("foo-server", { supportedModelFormats: [{ name: "foo", autoSelect: true }] }));
    await until("isvc", "strange", "has a runtime", (it) => it.modelStatus?.lastFailureInfo?.reason !== "NoSupportingRuntime");
    await plane.kubectl("delete", "servingruntime", "foo-server");
    await until("isvc", "strange", "has none again", (it) => it.modelStatus?.lastFailureInfo?.reason === "NoSupportingRuntime");
  });

  test("a spec that says nothing usable is told so, and hinders no other", async () => {
    const object = JSON.parse(buildInferenceService("empty", ""));
    object.spec.predictor = { model: { modelFormat: { name: "onnx" } } };
    await plane.kubectl.apply(JSON.stringify(object));
    const status = await until("isvc", "empty", "is invalid", (it) => it.modelStatus?.transitionStatus === "InvalidSpec");
    assert.equal(status.modelStatus.lastFailureInfo.reason, "InvalidPredictorSpec");
    assert.match(status.modelStatus.lastFailureInfo.message, /does not say where the artefact lies/);
    assert.match(
      status.conditions.find(({ type }: { type: string }) => type === "Ready").message,
      /storageUri or storage.path is needed/,
    );
  });

  test("a Predictor without storage fails as it always did; one that says things twice is invalid", async () => {
    await plane.kubectl.apply(buildPredictor("no-storage", { path: "a/b" }));
    const status = await until("predictor", "no-storage", "has failed", (it) => it.activeModelState === "FailedToLoad");
    assert.deepEqual([status.available, status.transitionStatus, status.targetModelState], [false, "UpToDate", ""]);
    assert.equal(status.lastFailureInfo.reason, "ModelLoadFailed");
    assert.equal(status.lastFailureInfo.message, "Predictor Storage field missing");
    assert.notEqual(status.lastFailureInfo.location, undefined);
    await plane.kubectl.apply(buildPredictor("twice", { path: "a", storage: { path: "b" } }));
    const twice = await until("predictor", "twice", "is invalid", (it) => it.transitionStatus === "InvalidSpec");
    assert.equal(twice.lastFailureInfo.reason, "InvalidPredictorSpec");
  });

  test("a Predictor is readable at once: its status begins with the default", async () => {
    await controller.stop();
    await plane.kubectl.apply(buildPredictor("fresh", { storage: { path: "a" } }));
    assert.deepEqual(await statusOf("predictor", "fresh"), {
      activeModelState: "Pending",
      available: false,
      failedCopies: 0,
      targetModelState: "",
      totalCopies: 0,
      transitionStatus: "UpToDate",
    });
    await plane.kubectl("delete", "predictor", "fresh");
    await controller[Symbol.asyncDispose]();
    controller = await start();
  });

  test("a name stands for one object: the second kind of the same name is told who has it", async () => {
    await plane.kubectl.apply(buildInferenceService("shared", artefact("iris-t0001")));
    await until("isvc", "shared", "is loaded", isLoaded);
    await plane.kubectl.apply(buildPredictor("shared", { storage: { path: "a" } }));
    const status = await until("predictor", "shared", "is invalid", (it) => it.transitionStatus === "InvalidSpec");
    assert.match(status.lastFailureInfo.message, /taken by the InferenceService of the same name/);
    assert.equal(isLoaded(await statusOf("isvc", "shared")), true);
  });

  test("what the management API registered is not taken away, and keeps its name", async () => {
    await fleet.register("by-hand", artefact("iris-t0001"));
    await plane.kubectl.apply(buildInferenceService("by-hand", artefact("iris-t0002")));
    const status = await until("isvc", "by-hand", "is invalid", (it) => it.modelStatus?.transitionStatus === "InvalidSpec");
    assert.match(status.modelStatus.lastFailureInfo.message, /taken by the management API/);
    await plane.kubectl("delete", "isvc", "by-hand");
    await plane.kubectl.apply(buildInferenceService("after-that", artefact("iris-t0001")));
    await until("isvc", "after-that", "is loaded", isLoaded);
    assert.equal(await registered("by-hand"), 200);
  });

  test("what is deleted is gone, though another one's finalizer still holds its object", async () => {
    const object = JSON.parse(buildInferenceService("held", artefact("iris-t0001")));
    object.metadata.finalizers = ["example.com/hold"];
    await plane.kubectl.apply(JSON.stringify(object));
    await until("isvc", "held", "is loaded", isLoaded);
    await plane.kubectl("delete", "isvc", "held", "--wait=false");
    await waitUntil(
      "it is unregistered",
      () => registered("held"),
      (status) => status === 404,
      waitMs,
    );
    await plane.kubectl("patch", "isvc", "held", "--type=json", '--patch=[{"op":"remove","path":"/metadata/finalizers"}]');
    await waitUntil(
      "the object is gone",
      () => plane.kubectl.get("isvc", "held"),
      (it) => it === undefined,
      waitMs,
    );
  });

  test("what is deleted while no controller runs is gone once one does", async () => {
    await plane.kubectl.apply(buildInferenceService("orphan", artefact("iris-t0001")));
    await until("isvc", "orphan", "is loaded", isLoaded);
    await controller.stop();
    await controller[Symbol.asyncDispose]();
    await plane.kubectl("delete", "isvc", "orphan");
    assert.equal(await registered("orphan"), 200);
    controller = await start();
    await waitUntil(
      "it is unregistered",
      () => registered("orphan"),
      (status) => status === 404,
      waitMs,
    );
  });

  test("our own Model: several revisions, one active, shares of the others", async () => {
    const revision = (name: string, model: string): Readonly<Record<string, unknown>> => ({
      name,
      format: "onnx",
      storageUri: artefact(model),
      size: "1Mi",
    });
    const model = (spec: Readonly<Record<string, unknown>>): string =>
      JSON.stringify({ apiVersion: "warmpath.dev/v1alpha1", kind: "Model", metadata: { name: "ours" }, spec });
    const revisions = [revision("v1", "iris-t0001"), revision("v2", "iris-t0002")];
    await plane.kubectl.apply(
      model({ revisions, active: "v1", split: [{ revision: "v2", percent: 25 }], maxCopies: 2, priority: "high" }),
    );
    const status = await until("model", "ours", "is loaded", (it) => it.activeState === "Loaded");
    assert.equal(status.url, "http://modelmesh-serving.default:8008/v2/models/ours/infer");
    const record = (await fleet.manage("GET", "/api/v1/models/ours")).json as KubeValue;
    assert.match(record.active, /^v1-[0-9a-f]{10}$/);
    assert.equal(record.split[0].percent, 25);
    assert.match(record.split[0].revision, /^v2-/);
    assert.equal(record.priority, "high");
    assert.equal(record.revisions[0].sizeHintBytes, 2 ** 20);
    assert.equal(await infer("ours"), 200);
    await plane.kubectl.apply(model({ revisions, active: "v2" }));
    await waitUntil(
      "v2 is active",
      () => statusOf("model", "ours"),
      (it) => String(it.active).startsWith("v2-") && it.transition === "UpToDate",
      waitMs,
    );
    await plane.kubectl("delete", "model", "ours");
    await waitUntil(
      "it is gone",
      () => registered("ours"),
      (code) => code === 404,
      waitMs,
    );
  });

  test("the API server refuses what cannot be, in a sentence", async () => {
    const model = (spec: Readonly<Record<string, unknown>>): string =>
      JSON.stringify({ apiVersion: "warmpath.dev/v1alpha1", kind: "Model", metadata: { name: "bad" }, spec });
    const revision = { name: "v1", format: "onnx", storageUri: "s3://bucket/path" };
    const runtime = JSON.parse(onnxRuntime("bad"));
    const refusals: readonly (readonly [string, RegExp])[] = [
      [model({ revisions: [revision], active: "v2" }), /active must be the name of one of the revisions/],
      [model({ revisions: [revision, { ...revision, name: "v2" }] }), /active must say which one requests go to/],
      [
        model({ revisions: [revision], active: "v1", split: [{ revision: "v1", percent: 10 }] }),
        /split names the other revisions/,
      ],
      [model({ revisions: [revision], minCopies: 3, maxCopies: 2 }), /minCopies must not be more than maxCopies/],
      [model({ revisions: [{ ...revision, size: "big" }] }), /size/],
      [model({ revisions: [{ ...revision, storageUri: "nowhere" }] }), /storageUri/],
      [
        JSON.stringify({ ...runtime, spec: { ...runtime.spec, containers: [{ name: "other" }] } }),
        /containers must hold the model server/,
      ],
      [
        JSON.stringify({ ...runtime, spec: { ...runtime.spec, containers: [...runtime.spec.containers, { name: "mm-x" }] } }),
        /reserved/,
      ],
      [buildInferenceService("bad", "s3://a/b", { storage: { path: "c" } }), /storageUri or storage.path, not both/],
    ];
    for (const [object, says] of refusals) await assert.rejects(plane.kubectl.apply(object), says);
  });

  test("a runtime gets its Deployment, Service, NetworkPolicy and budget; its status tells of them", async () => {
    const deployment = await waitUntil(
      "the Deployment",
      () => plane.kubectl.get("deployment", "modelmesh-serving-onnx"),
      (it) => it?.spec.replicas === 2,
      waitMs,
    );
    const pod = deployment.spec.template.spec;
    assert.deepEqual(
      pod.containers.map(({ name }: { name: string }) => name),
      ["onnx", "warmpath-adapter"],
    );
    assert.equal(pod.securityContext.runAsNonRoot, true);
    assert.equal(deployment.spec.template.metadata.labels["modelmesh-service"], "modelmesh-serving");
    for (const kind of ["service", "networkpolicy", "poddisruptionbudget"])
      assert.ok(await plane.kubectl.get(kind, "modelmesh-serving-onnx"), kind);
    const status = await until("servingruntime", "onnx", "says so", (it) => it.deployment === "modelmesh-serving-onnx");
    const conditions = Object.fromEntries(status.conditions.map((it: { type: string }) => [it.type, it]));
    assert.match(conditions["Valid"].message, /listens on 0.0.0.0 instead of loopback/);
    assert.equal(conditions["Available"].status, "False");
    // What another hand changes is changed back.
    await plane.kubectl("scale", "deployment", "modelmesh-serving-onnx", "--replicas=7");
    await waitUntil(
      "it has its own number again",
      () => plane.kubectl.get("deployment", "modelmesh-serving-onnx"),
      (it) => it?.spec.replicas === 2,
      waitMs,
    );
  });

  test("a runtime that is disabled, for single models, or cannot run has no pods, and says why", async () => {
    const cases: readonly (readonly [string, Readonly<Record<string, unknown>>, string, RegExp])[] = [
      ["off", { disabled: true }, "Disabled", /disabled/],
      ["single", { multiModel: false }, "NotMultiModel", /one model at a time/],
      ["socket", { grpcDataEndpoint: "unix:/models/run.sock" }, "InvalidRuntime", /Valid/],
    ];
    for (const [name, spec, reason, says] of cases) {
      await plane.kubectl.apply(onnxRuntime(name, spec));
      const status = await until("servingruntime", name, "says why", (it) => it.conditions !== undefined);
      const available = status.conditions.find(({ type }: { type: string }) => type === "Available");
      assert.equal(available.reason, reason);
      assert.match(available.message, says);
      assert.equal(await plane.kubectl.get("deployment", `modelmesh-serving-${name}`), undefined);
      await plane.kubectl("delete", "servingruntime", name);
    }
  });

  test("a runtime's HPA follows its annotations", async () => {
    const notes = { "serving.kserve.io/autoscalerClass": "hpa" };
    const used = JSON.parse(buildInferenceService("scaled", artefact("iris-t0001"), { runtime: "scaling" }));
    const format = { supportedModelFormats: [{ name: "onnx", autoSelect: false }] };
    await plane.kubectl.apply(onnxRuntime("scaling", format, notes));
    assert.equal(await plane.kubectl.get("hpa", "modelmesh-serving-scaling"), undefined);
    await plane.kubectl.apply(JSON.stringify(used));
    const hpa = await waitUntil(
      "the HPA",
      () => plane.kubectl.get("hpa", "modelmesh-serving-scaling"),
      (it) => it !== undefined,
      waitMs,
    );
    assert.deepEqual([hpa.spec.minReplicas, hpa.spec.maxReplicas], [1, 1]);
    assert.equal(hpa.spec.metrics[0].resource.target.averageUtilization, 80);
    await plane.kubectl.apply(
      onnxRuntime("scaling", format, {
        ...notes,
        "serving.kserve.io/min-scale": "2",
        "serving.kserve.io/max-scale": "4",
        "serving.kserve.io/metrics": "memory",
        "serving.kserve.io/targetUtilizationPercentage": "90",
      }),
    );
    await waitUntil(
      "the HPA is another",
      () => plane.kubectl.get("hpa", "modelmesh-serving-scaling"),
      (it) => it?.spec.minReplicas === 2 && it.spec.maxReplicas === 4 && it.spec.metrics[0].resource.name === "memory",
      waitMs,
    );
    await plane.kubectl.apply(onnxRuntime("scaling", format));
    await waitUntil(
      "the HPA is gone",
      () => plane.kubectl.get("hpa", "modelmesh-serving-scaling"),
      (it) => it === undefined,
      waitMs,
    );
    await plane.kubectl("delete", "isvc", "scaled");
    await plane.kubectl("delete", "servingruntime", "scaling");
    await waitUntil(
      "its pods are gone",
      () => plane.kubectl.get("deployment", "modelmesh-serving-scaling"),
      (it) => it === undefined,
      waitMs,
    );
  });

  test("an API server that is killed and comes back is gone on with", async () => {
    await plane.restartApi();
    await plane.kubectl.apply(buildInferenceService("after-restart", artefact("iris-t0001")));
    await until("isvc", "after-restart", "is loaded", isLoaded);
    await plane.kubectl("delete", "isvc", "after-restart");
    await waitUntil(
      "it is unregistered",
      () => registered("after-restart"),
      (code) => code === 404,
      waitMs,
    );
  });
});
