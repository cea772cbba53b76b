// What cannot be served says why, in the predecessor's words, and hinders nothing else. A real API server and a real fleet of this
// machine.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { waitUntil } from "../harness/wait.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildInferenceService, buildPredictor, onnxRuntime } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";
import { isLoaded, openServed, type Served, stateOf, waitMs } from "./harness/served.ts";

const skip = whyNoControlPlane() ?? false;

describe("models that fail", { skip }, () => {
  let it: Served;
  before(async () => {
    it = await openServed();
  });
  after(() => it?.[Symbol.asyncDispose]());

  test("an update that cannot be loaded blocks, with the reason, and the old one serves on; going back ends it", async () => {
    await it.plane.kubectl.apply(buildInferenceService("blocked", it.artefact("iris-t0001")));
    await it.until("isvc", "blocked", "is loaded", isLoaded);
    await it.plane.kubectl.apply(buildInferenceService("blocked", it.missing()));
    const status = await it.until(
      "isvc",
      "blocked",
      "is blocked",
      (seen) => seen.modelStatus?.transitionStatus === "BlockedByFailedLoad",
    );
    assert.equal(status.modelStatus.states.activeModelState, "Loaded");
    assert.equal(status.modelStatus.states.targetModelState, "FailedToLoad");
    assert.equal(status.modelStatus.lastFailureInfo.reason, "ModelLoadFailed");
    assert.match(status.modelStatus.lastFailureInfo.modelRevisionName, /^blocked__isvc-/);
    assert.notEqual(status.modelStatus.lastFailureInfo.message, "");
    assert.equal(await it.infer("blocked"), 200);
    await it.plane.kubectl.apply(buildInferenceService("blocked", it.artefact("iris-t0001")));
    const after = await it.until("isvc", "blocked", "is as it was", isLoaded);
    assert.equal(after.modelStatus.lastFailureInfo, undefined);
  });

  test("a new one that cannot be loaded says so: FailedToLoad, ModelLoadFailed, where and when", async () => {
    await it.plane.kubectl.apply(buildInferenceService("failing", it.missing()));
    const status = await it.until("isvc", "failing", "has failed", (seen) => stateOf(seen) === "FailedToLoad");
    assert.equal(status.modelStatus.transitionStatus, "UpToDate");
    assert.equal(status.modelStatus.lastFailureInfo.reason, "ModelLoadFailed");
    assert.match(status.modelStatus.lastFailureInfo.location, /./);
    assert.ok(Date.now() - Date.parse(status.modelStatus.lastFailureInfo.time) < 120_000);
    assert.equal(status.conditions.find(({ type }: { type: string }) => type === "Ready").status, "False");
    const events = await waitUntil(
      "the event",
      () =>
        it.plane.kubectl("get", "events.events.k8s.io", "--output", "jsonpath={.items[?(@.regarding.name=='failing')].reason}"),
      (reasons) => reasons.includes("ModelLoadFailed"),
      waitMs,
    );
    assert.match(events, /ModelLoadFailed/);
    // It recovers by being corrected.
    await it.plane.kubectl.apply(buildInferenceService("failing", it.artefact("iris-t0001")));
    await it.until("isvc", "failing", "is loaded", isLoaded);
  });

  test("no runtime for the format, or none of the name: the predecessor's reasons", async () => {
    await it.plane.kubectl.apply(buildInferenceService("strange", it.artefact("iris-t0001"), { modelFormat: { name: "foo" } }));
    const strange = await it.until("isvc", "strange", "has failed", (seen) => stateOf(seen) === "FailedToLoad");
    assert.equal(strange.modelStatus.lastFailureInfo.reason, "NoSupportingRuntime");
    assert.equal(strange.modelStatus.lastFailureInfo.message, "No ServingRuntime supports specified model type and/or protocol");
    assert.equal(strange.modelStatus.lastFailureInfo.location, undefined);
    await it.plane.kubectl.apply(buildInferenceService("lost", it.artefact("iris-t0001"), { runtime: "not-there" }));
    const lost = await it.until("isvc", "lost", "has failed", (seen) => stateOf(seen) === "FailedToLoad");
    assert.equal(lost.modelStatus.lastFailureInfo.reason, "RuntimeNotRecognized");
    assert.equal(lost.modelStatus.lastFailureInfo.message, "Specified runtime name not recognized");
    assert.equal(await it.registered("strange"), 404);
    // A runtime that comes later takes it up.
    await it.plane.kubectl.apply(onnxRuntime("foo-server", { supportedModelFormats: [{ name: "foo", autoSelect: true }] }));
    await it.until(
      "isvc",
      "strange",
      "has a runtime",
      (seen) => seen.modelStatus?.lastFailureInfo?.reason !== "NoSupportingRuntime",
    );
    await it.plane.kubectl("delete", "servingruntime", "foo-server");
    await it.until(
      "isvc",
      "strange",
      "has none again",
      (seen) => seen.modelStatus?.lastFailureInfo?.reason === "NoSupportingRuntime",
    );
  });

  test("a spec that says nothing usable is told so, and hinders no other", async () => {
    const object = JSON.parse(buildInferenceService("empty", ""));
    object.spec.predictor = { model: { modelFormat: { name: "onnx" } } };
    await it.plane.kubectl.apply(JSON.stringify(object));
    const status = await it.until("isvc", "empty", "is invalid", (seen) => seen.modelStatus?.transitionStatus === "InvalidSpec");
    assert.equal(status.modelStatus.lastFailureInfo.reason, "InvalidPredictorSpec");
    assert.match(status.modelStatus.lastFailureInfo.message, /does not say where the artefact lies/);
    assert.match(
      status.conditions.find(({ type }: { type: string }) => type === "Ready").message,
      /storageUri or storage.path is needed/,
    );
  });

  test("a Predictor without storage fails as it always did; one that says things twice is invalid", async () => {
    await it.plane.kubectl.apply(buildPredictor("no-storage", { path: "a/b" }));
    const status = await it.until("predictor", "no-storage", "has failed", (seen) => seen.activeModelState === "FailedToLoad");
    assert.deepEqual([status.available, status.transitionStatus, status.targetModelState], [false, "UpToDate", ""]);
    assert.equal(status.lastFailureInfo.reason, "ModelLoadFailed");
    assert.equal(status.lastFailureInfo.message, "Predictor Storage field missing");
    assert.notEqual(status.lastFailureInfo.location, undefined);
    await it.plane.kubectl.apply(buildPredictor("twice", { path: "a", storage: { path: "b" } }));
    const twice = await it.until("predictor", "twice", "is invalid", (seen) => seen.transitionStatus === "InvalidSpec");
    assert.equal(twice.lastFailureInfo.reason, "InvalidPredictorSpec");
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
      ...(
        [
          [{ builtInAdapter: { serverType: "tritn" }, containers: [{ name: "tritn" }] }, /must be one of onnx, mlserver/],
          [{ builtInAdapter: undefined, grpcEndpoint: undefined }, /grpcEndpoint must say where the model server takes loads/],
          [{ builtInAdapter: undefined, grpcEndpoint: "tcp:8085" }, /grpcEndpoint must be port:NUMBER or unix/],
          [{ grpcEndpoint: "port:8085", grpcDataEndpoint: "8001" }, /grpcDataEndpoint must be port:NUMBER or unix/],
        ] as const
      ).map(([wrong, says]) => [JSON.stringify({ ...runtime, spec: { ...runtime.spec, ...wrong } }), says] as const),
      [buildInferenceService("bad", "s3://a/b", { storage: { path: "c" } }), /storageUri or storage.path, not both/],
    ];
    for (const [object, says] of refusals) await assert.rejects(it.plane.kubectl.apply(object), says);
  });

  test("an entry of the storage settings that is not there fails the model, and says which", async () => {
    const storage = { key: "not-there", path: "models/iris/iris-t0001.onnx" };
    await it.plane.kubectl.apply(buildPredictor("no-entry", { storage }));
    const status = await it.until("predictor", "no-entry", "has failed", (seen) => seen.activeModelState === "FailedToLoad");
    assert.deepEqual([status.available, status.transitionStatus, status.targetModelState], [false, "UpToDate", ""]);
    assert.equal(status.lastFailureInfo.reason, "ModelLoadFailed");
    assert.match(status.lastFailureInfo.message, /not-there/);
    assert.match(status.lastFailureInfo.location, /./);
    assert.notEqual(status.lastFailureInfo.time, undefined);
    // Another one names its storage rightly, and is hindered by nothing.
    await it.plane.kubectl.apply(buildInferenceService("beside-it", it.artefact("iris-t0001")));
    await it.until("isvc", "beside-it", "is loaded", isLoaded);
  });

  test("what people look for is told by events, each once: the runtime chosen, loaded, failed, blocked, scaled up and down", async () => {
    const { kubectl } = it.plane;
    const told = async (kind: string, name: string): Promise<readonly string[]> => {
      const { items } = JSON.parse(await kubectl("get", "events.events.k8s.io", "--output", "json")) as { items: KubeValue[] };
      return items
        .filter(({ regarding }) => regarding.kind === kind && regarding.name === name)
        .map(({ type, reason, note, reportingController }) => {
          assert.equal(reportingController, "warmpath-controller");
          return `${type} ${reason}: ${note}`;
        });
    };
    const until = (kind: string, name: string, event: RegExp, count = 1): Promise<readonly string[]> =>
      waitUntil(
        `${event} of ${name} is told ${count} times`,
        () => told(kind, name),
        (said) => said.filter((each) => event.test(each)).length === count,
        waitMs,
      );
    const name = "told-of";
    await kubectl.apply(buildInferenceService(name, it.artefact("iris-t0001")));
    await until("InferenceService", name, /^Normal RuntimeSelected: .*onnx serves onnx/);
    await until("InferenceService", name, /^Normal Loaded: revision told-of__isvc-\w+ is loaded$/);
    await kubectl.apply(buildInferenceService(name, it.missing()));
    const blocked = /^Warning BlockedByFailedLoad: ModelLoadFailed: .*no artefact.*; revision told-of__isvc-\w+ serves on$/;
    await until("InferenceService", name, blocked);
    await kubectl.apply(buildInferenceService(name, it.artefact("iris-t0002")));
    // Two revisions came to serve; what was looked at again and again meanwhile was told of once.
    const all = await until("InferenceService", name, /^Normal Loaded/, 2);
    assert.equal(new Set(all).size, all.length, all.join("\n"));
    assert.deepEqual(
      all.map((each) => /^\w+ \w+/.exec(each)?.[0] ?? each).toSorted(),
      ["Normal Loaded", "Normal Loaded", "Normal RuntimeSelected", "Warning BlockedByFailedLoad"],
      all.join("\n"),
    );

    const runtime = "counted";
    const unselected = { supportedModelFormats: [{ name: "onnx" }] };
    await kubectl.apply(onnxRuntime(runtime, { ...unselected, replicas: 1 }));
    await kubectl.apply(buildInferenceService(`on-${runtime}`, it.artefact("iris-t0001"), { runtime }));
    await until("ServingRuntime", runtime, /^Normal ScaledUp: from 0 to 1: /);
    await kubectl.apply(onnxRuntime(runtime, { ...unselected, replicas: 3 }));
    await until("ServingRuntime", runtime, /^Normal ScaledUp: from 1 to 3: /);
    await kubectl.apply(onnxRuntime(runtime, { ...unselected, replicas: 2 }));
    await until("ServingRuntime", runtime, /^Normal ScaledDown: from 3 to 2: /);
    await kubectl("delete", "isvc", `on-${runtime}`);
    await kubectl("delete", "servingruntime", runtime);
  });

  test("a runtime for one model at a time gives its models none", async () => {
    const formats = { supportedModelFormats: [{ name: "lone", autoSelect: true }], multiModel: false };
    await it.plane.kubectl.apply(onnxRuntime("lone", formats));
    await it.plane.kubectl.apply(buildPredictor("alone", { modelType: { name: "lone" }, storage: { path: "a" } }));
    const status = await it.until("predictor", "alone", "says why", (seen) => seen.lastFailureInfo !== undefined);
    assert.deepEqual(
      [status.available, status.activeModelState, status.targetModelState, status.transitionStatus],
      [false, "Pending", "", "UpToDate"],
    );
    assert.equal(status.lastFailureInfo.reason, "NoSupportingRuntime");
    assert.equal(await it.plane.kubectl.get("deployment", "modelmesh-serving-lone"), undefined);
  });
});
