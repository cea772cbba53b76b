// Owns what is said of a model: the states of its active and its target revision, whether what is served is what the spec
// says, the last failure. The words and what they mean are ModelMesh's. Pure.
//
//   Pending      no pod has been asked yet, or none is up
//   Loading      a copy is being loaded, or a pod that could load it is not ready
//   Loaded       a copy is ready
//   Standby      it was loaded once, no copy is left: the next request loads it
//   FailedToLoad the last load failed
import type { ErrorCode } from "#core/errors.ts";
import type { Model } from "#core/model.ts";

export type State = "" | "Pending" | "Standby" | "Loading" | "Loaded" | "FailedToLoad";
export type Transition = "UpToDate" | "InProgress" | "BlockedByFailedLoad" | "InvalidSpec";
export type FailureReason =
  | "ModelLoadFailed"
  | "RuntimeUnhealthy"
  | "NoSupportingRuntime"
  | "RuntimeNotRecognized"
  | "InvalidPredictorSpec";

export interface CopySeen {
  readonly podId: string;
  readonly revision: string;
  readonly state: string;
  readonly failure: string | undefined;
}

/** How the last load of a revision ended. */
export interface LoadSeen {
  readonly revision: string;
  readonly code: ErrorCode;
  readonly reason: string;
  readonly atMs: number;
}

export interface FailureView {
  /** The pod; undefined when it concerns none. */
  readonly location: string | undefined;
  readonly reason: FailureReason;
  readonly message: string;
  readonly revision: string | undefined;
  /** RFC 3339, whole seconds. */
  readonly time: string;
}

export interface ModelView {
  readonly transition: Transition;
  readonly activeState: State;
  readonly targetState: State;
  readonly available: boolean;
  readonly active: string | undefined;
  readonly target: string | undefined;
  readonly totalCopies: number;
  readonly failedCopies: number;
  readonly failure: FailureView | undefined;
  /** How its runtime was chosen, or why none could be. */
  readonly selection: { readonly ok: boolean; readonly reason: string; readonly message: string };
}

export interface ModelSeen {
  readonly model: Model;
  readonly copies: readonly CopySeen[];
  /** Of the active revision, and of the target; undefined after a success. */
  readonly loads: readonly LoadSeen[];
  /** A revision that has been ready once. */
  readonly wasLoaded: (revision: string) => boolean;
  readonly why: string;
  /** The pointer has moved, and not every gateway's clients are answered by the new revision yet. */
  readonly arriving: boolean;
  /** Pods of its runtime that are up. */
  readonly runtimePods: number;
  readonly anyPods: boolean;
  readonly nowMs: number;
}

/** What stands in the way before there is anything to load. */
export type Obstacle =
  | { readonly kind: "spec"; readonly message: string }
  /** The older kind's way of saying that it lacks its storage. */
  | { readonly kind: "storage"; readonly message: string; readonly location: string }
  | {
      readonly kind: "runtime";
      readonly reason: "NoSupportingRuntime" | "RuntimeNotRecognized";
      readonly message: string;
      readonly why: string;
      readonly isPending: boolean;
    };

export function viewModel(seen: ModelSeen): ModelView {
  const { model, nowMs } = seen;
  const active = viewRevision(seen, model.active);
  const target = model.target === undefined ? undefined : viewRevision(seen, model.target);
  const judged = target ?? active;
  // Of one that nobody holds, nobody is answered by the revision before either.
  const arriving = target === undefined && seen.arriving && active.state === "Loaded";
  const failedTarget = target?.state === "FailedToLoad";
  return {
    transition: failedTarget ? "BlockedByFailedLoad" : target !== undefined || arriving ? "InProgress" : "UpToDate",
    activeState: active.state,
    targetState: target?.state ?? (arriving ? active.state : ""),
    available:
      active.state === "Loaded" || active.state === "Standby" || (active.state === "Loading" && active.failure === undefined),
    active: model.active,
    target: model.target,
    totalCopies: seen.copies.filter(({ state }) => state === "ready").length,
    failedCopies: seen.copies.filter(({ state }) => state === "failed").length,
    failure:
      judged.failure === undefined || judged.state === "Loaded"
        ? undefined
        : { ...judged.failure, revision: target === undefined ? model.active : model.target, time: timeOf(judged.atMs ?? nowMs) },
    selection: { ok: true, reason: "RuntimeSelected", message: seen.why },
  };
}

/** The active revision of a model serves on while its successor has no runtime. */
export function viewObstacle(obstacle: Obstacle, served: ModelView | undefined, nowMs: number): ModelView {
  const time = timeOf(nowMs);
  const base = served ?? nothing;
  switch (obstacle.kind) {
    case "spec":
      return {
        ...base,
        transition: "InvalidSpec",
        targetState: "",
        failure: { location: undefined, reason: "InvalidPredictorSpec", message: obstacle.message, revision: undefined, time },
        selection: { ok: false, reason: "InvalidPredictorSpec", message: obstacle.message },
      };
    case "storage":
      return {
        ...base,
        activeState: served?.activeState ?? "FailedToLoad",
        targetState: served === undefined ? "" : "FailedToLoad",
        transition: served === undefined ? "UpToDate" : "BlockedByFailedLoad",
        failure: { location: obstacle.location, reason: "ModelLoadFailed", message: obstacle.message, revision: undefined, time },
        selection: { ok: false, reason: "InvalidPredictorSpec", message: obstacle.message },
      };
    case "runtime":
      return {
        ...base,
        activeState: served?.activeState ?? (obstacle.isPending ? "Pending" : "FailedToLoad"),
        targetState: served === undefined ? "" : "FailedToLoad",
        transition: served === undefined ? "UpToDate" : "BlockedByFailedLoad",
        failure: { location: undefined, reason: obstacle.reason, message: obstacle.message, revision: undefined, time },
        selection: { ok: false, reason: obstacle.reason, message: obstacle.why },
      };
  }
}

const nothing: ModelView = Object.freeze({
  transition: "UpToDate",
  activeState: "Pending",
  targetState: "",
  available: false,
  active: undefined,
  target: undefined,
  totalCopies: 0,
  failedCopies: 0,
  failure: undefined,
  selection: { ok: false, reason: "", message: "" },
});

interface RevisionView {
  readonly state: State;
  readonly failure: Pick<FailureView, "location" | "reason" | "message"> | undefined;
  readonly atMs: number | undefined;
}

function viewRevision({ model, copies, loads, wasLoaded, runtimePods, anyPods }: ModelSeen, id: string): RevisionView {
  const own = copies.filter(({ revision }) => revision === id);
  if (own.some(({ state }) => state === "ready")) return { state: "Loaded", failure: undefined, atMs: undefined };
  const kept = model.failure?.revision === id ? model.failure : undefined;
  const told = loads.find(({ revision }) => revision === id) ?? kept;
  const failed = own.find(({ state }) => state === "failed");
  const underWay = own.some(({ state }) => state === "queued" || state === "loading");
  const code = told?.code ?? (failed === undefined ? undefined : "model-load-failed");
  const atMs = told?.atMs;
  if (underWay) return { state: "Loading", failure: undefined, atMs };
  if (code === undefined || code === "cancelled") {
    if (wasLoaded(id)) return { state: "Standby", failure: undefined, atMs };
    if (runtimePods > 0) return { state: "Loading", failure: undefined, atMs };
  }
  if (code === undefined || code === "cancelled" || blamesPods.has(code)) {
    const message = anyPods
      ? "Waiting for supporting runtime Pod to become available"
      : "Waiting for runtime Pod to become available";
    return {
      state: wasLoaded(id) ? "Standby" : anyPods ? "Loading" : "Pending",
      failure: { location: undefined, reason: "RuntimeUnhealthy", message },
      atMs,
    };
  }
  return {
    state: "FailedToLoad",
    failure: {
      location: failed?.podId,
      reason: "ModelLoadFailed",
      message: told?.reason ?? failed?.failure ?? "the load failed",
    },
    atMs,
  };
}

/** A pod that is not up yet, or has too much to do, is nothing to blame the model for. */
const blamesPods: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "no-pods",
  "no-runtime",
  "pod-failed",
  "unavailable",
  "deadline-exceeded",
  "queue-full",
]);

function timeOf(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
