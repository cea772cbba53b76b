// What is said of a model in every situation: the predecessor's words.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Model, parseModel } from "#core/model.ts";
import { type CopySeen, type LoadSeen, type ModelSeen, viewModel, viewObstacle } from "./view.ts";

const nowMs = Date.parse("2026-01-01T00:00:00Z");

function model(target?: string, failure?: LoadSeen): Model {
  const revision = (id: string, slot: number): unknown => ({ id, slot, format: "onnx", storageUri: "s3://a/b", runtime: "onnx" });
  const parsed = parseModel({
    name: "m",
    revisions: [revision("r1", 0), revision("r2", 1)],
    active: "r1",
    target,
    ...(failure === undefined ? {} : { failure }),
  });
  assert.equal(parsed.kind, "ok", parsed.kind === "refused" ? parsed.reason : "");
  return (parsed as { readonly model: Model }).model;
}

const copy = (revision: string, state: string): CopySeen => ({
  podId: "pod-1",
  revision,
  state,
  failure: state === "failed" ? "no such file" : undefined,
});
const load = (revision: string, code: LoadSeen["code"]): LoadSeen => ({
  revision,
  code,
  reason: `because of ${code}`,
  atMs: nowMs,
});

const cases: readonly {
  readonly says: string;
  readonly seen: Partial<ModelSeen>;
  readonly active: string;
  readonly target?: string;
  readonly transition: string;
  readonly available: boolean;
  readonly reason?: string;
  readonly message?: string;
}[] = [
  {
    says: "no pod is up",
    seen: { runtimePods: 0, anyPods: false },
    active: "Pending",
    transition: "UpToDate",
    available: false,
    reason: "RuntimeUnhealthy",
    message: "Waiting for runtime Pod to become available",
  },
  {
    says: "only pods of other runtimes are up",
    seen: { runtimePods: 0, anyPods: true },
    active: "Loading",
    transition: "UpToDate",
    available: false,
    reason: "RuntimeUnhealthy",
    message: "Waiting for supporting runtime Pod to become available",
  },
  { says: "a pod is up and has not been heard of it", seen: {}, active: "Loading", transition: "UpToDate", available: true },
  { says: "a copy loads", seen: { copies: [copy("r1", "loading")] }, active: "Loading", transition: "UpToDate", available: true },
  {
    says: "a copy is ready",
    seen: { copies: [copy("r1", "ready"), copy("r1", "failed")] },
    active: "Loaded",
    transition: "UpToDate",
    available: true,
  },
  {
    says: "it was loaded once and is no longer",
    seen: { wasLoaded: () => true },
    active: "Standby",
    transition: "UpToDate",
    available: true,
  },
  {
    says: "its artefact is bad",
    seen: { copies: [copy("r1", "failed")], loads: [load("r1", "model-load-failed")] },
    active: "FailedToLoad",
    transition: "UpToDate",
    available: false,
    reason: "ModelLoadFailed",
    message: "because of model-load-failed",
  },
  {
    says: "its storage does not answer",
    seen: { loads: [load("r1", "storage-unavailable")] },
    active: "FailedToLoad",
    transition: "UpToDate",
    available: false,
    reason: "ModelLoadFailed",
  },
  {
    says: "there is no room",
    seen: { loads: [load("r1", "no-capacity")] },
    active: "FailedToLoad",
    transition: "UpToDate",
    available: false,
    reason: "ModelLoadFailed",
  },
  {
    says: "its pods are gone after it was loaded",
    seen: { wasLoaded: () => true, loads: [load("r1", "no-pods")], anyPods: false, runtimePods: 0 },
    active: "Standby",
    transition: "UpToDate",
    available: true,
    reason: "RuntimeUnhealthy",
  },
  {
    says: "a new revision loads",
    seen: { model: model("r2"), copies: [copy("r1", "ready"), copy("r2", "loading")] },
    active: "Loaded",
    target: "Loading",
    transition: "InProgress",
    available: true,
  },
  {
    says: "a new revision is loaded, and not yet active",
    seen: { model: model("r2"), copies: [copy("r1", "ready"), copy("r2", "ready")] },
    active: "Loaded",
    target: "Loaded",
    transition: "InProgress",
    available: true,
  },
  {
    says: "a new revision is active, and some clients are still answered by the old one",
    seen: { copies: [copy("r1", "ready")], arriving: true },
    active: "Loaded",
    target: "Loaded",
    transition: "InProgress",
    available: true,
  },
  {
    says: "what nobody holds is awaited by no client's route",
    seen: { copies: [copy("r1", "loading")], arriving: true },
    active: "Loading",
    target: "",
    transition: "UpToDate",
    available: true,
  },
  {
    says: "a new revision cannot be loaded",
    seen: { model: model("r2", load("r2", "model-load-failed")), copies: [copy("r1", "ready")] },
    active: "Loaded",
    target: "FailedToLoad",
    transition: "BlockedByFailedLoad",
    available: true,
    reason: "ModelLoadFailed",
  },
  {
    says: "a new revision waits for its runtime",
    seen: { model: model("r2", load("r2", "no-pods")), copies: [copy("r1", "ready")] },
    active: "Loaded",
    target: "Loading",
    transition: "InProgress",
    available: true,
    reason: "RuntimeUnhealthy",
  },
];

describe("what is said when", () => {
  for (const { says, seen, active, target = "", transition, available, reason, message } of cases) {
    test(says, () => {
      const view = viewModel({
        model: model(),
        copies: [],
        loads: [],
        wasLoaded: () => false,
        why: "chosen",
        arriving: false,
        runtimePods: 1,
        anyPods: true,
        nowMs,
        ...seen,
      });
      assert.deepEqual(
        [view.activeState, view.targetState, view.transition, view.available],
        [active, target, transition, available],
      );
      assert.equal(view.failure?.reason, reason);
      if (message !== undefined) assert.equal(view.failure?.message, message);
    });
  }

  test("the spec cannot be served: the old revision serves on", () => {
    const served = viewModel({
      model: model(),
      copies: [copy("r1", "ready")],
      loads: [],
      wasLoaded: () => false,
      why: "",
      arriving: false,
      runtimePods: 1,
      anyPods: true,
      nowMs,
    });
    const view = viewObstacle(
      { kind: "runtime", reason: "NoSupportingRuntime", message: "none", why: "a is disabled", isPending: false },
      served,
      nowMs,
    );
    assert.deepEqual(
      [view.activeState, view.targetState, view.transition, view.available],
      ["Loaded", "FailedToLoad", "BlockedByFailedLoad", true],
    );
    assert.equal(view.selection.message, "a is disabled");
  });
});
