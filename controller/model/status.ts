// Owns how what is said of a model is written into the status of each kind. Pure.
// Invariant: what says the same is the very same text, times included, so that nothing is written without a change.

import { buildConditions, type Condition, type Conditions } from "../conditions.ts";
import { record, text } from "../engine/objects.ts";
import type { Source } from "./source.ts";
import type { FailureView, ModelView } from "./view.ts";

export interface Endpoints {
  /** `host:port` under which clients reach gRPC and REST. */
  readonly grpc: string;
  readonly rest: string;
  readonly tls: boolean;
}

/** What is merged into the object's status; a null takes away what an earlier status said. */
export function buildStatus(
  source: Source,
  view: ModelView,
  endpoints: Endpoints,
  nowMs: number,
): Readonly<Record<string, unknown>> {
  switch (source.owner) {
    case "isvc":
      return inferenceServiceStatus(source, view, endpoints, nowMs);
    case "ksp":
      return predictorStatus(source, view, endpoints, nowMs);
    case "model":
      return modelStatus(source, view, endpoints, nowMs);
  }
}

function inferenceServiceStatus(
  source: Source,
  view: ModelView,
  endpoints: Endpoints,
  nowMs: number,
): Readonly<Record<string, unknown>> {
  const before = record(source.status["modelStatus"]);
  const failure = keepTime(view.failure, record(before["lastFailureInfo"]), "modelRevisionName");
  const grpc = `grpc://${endpoints.grpc}`;
  const urls = { url: grpc, grpcUrl: grpc, restUrl: restOf(endpoints) };
  return {
    observedGeneration: source.generation,
    conditions: conditionsOf(source, view, nowMs, ["PredictorReady", "Ready"]),
    url: view.active === undefined ? null : grpc,
    components: view.active === undefined ? null : { predictor: urls },
    modelStatus: {
      transitionStatus: view.transition,
      states: { activeModelState: view.activeState, targetModelState: view.targetState },
      copies: { totalCopies: view.totalCopies, failedCopies: view.failedCopies },
      lastFailureInfo: failure === undefined ? null : withoutUndefined({ ...base(failure), modelRevisionName: failure.revision }),
    },
  };
}

function predictorStatus(
  source: Source,
  view: ModelView,
  endpoints: Endpoints,
  nowMs: number,
): Readonly<Record<string, unknown>> {
  const failure = keepTime(view.failure, record(source.status["lastFailureInfo"]), "modelId");
  return {
    observedGeneration: source.generation,
    conditions: conditionsOf(source, view, nowMs, ["Ready"]),
    available: view.available,
    transitionStatus: view.transition,
    activeModelState: view.activeState,
    targetModelState: view.targetState,
    totalCopies: view.totalCopies,
    failedCopies: view.failedCopies,
    grpcEndpoint: `grpc://${endpoints.grpc}`,
    httpEndpoint: restOf(endpoints),
    lastFailureInfo: failure === undefined ? null : withoutUndefined({ ...base(failure), modelId: failure.revision }),
  };
}

function modelStatus(source: Source, view: ModelView, endpoints: Endpoints, nowMs: number): Readonly<Record<string, unknown>> {
  const failure = keepTime(view.failure, record(source.status["lastFailure"]), "revision");
  return {
    observedGeneration: source.generation,
    conditions: conditionsOf(source, view, nowMs, ["Ready"]),
    url: `${restOf(endpoints)}/v2/models/${source.name}/infer`,
    grpcUrl: `grpc://${endpoints.grpc}`,
    active: view.active ?? null,
    target: view.target ?? null,
    activeState: view.activeState,
    targetState: view.targetState,
    transition: view.transition,
    copies: view.totalCopies,
    failedCopies: view.failedCopies,
    lastFailure: failure === undefined ? null : withoutUndefined({ ...base(failure), revision: failure.revision }),
  };
}

function conditionsOf(source: Source, view: ModelView, nowMs: number, ready: readonly string[]): Conditions {
  const said = readiness(view);
  const wanted = [
    ...ready.map((type) => ({ type, ...said })),
    {
      type: "RuntimeSelected",
      status: view.selection.ok ? ("True" as const) : ("False" as const),
      reason: view.selection.reason === "" ? "Unknown" : view.selection.reason,
      message: view.selection.message,
    },
  ];
  return buildConditions(wanted, source.status["conditions"], source.generation, nowMs);
}

function readiness(view: ModelView): Pick<Condition, "status" | "reason" | "message"> {
  const message = view.failure?.message ?? "";
  if (view.transition === "InvalidSpec")
    return { status: view.available ? "True" : "False", reason: "InvalidPredictorSpec", message };
  if (view.available) {
    const { transition } = view;
    if (transition === "BlockedByFailedLoad")
      return { status: "True", reason: "BlockedByFailedLoad", message: `the previous revision serves on: ${message}` };
    return { status: "True", reason: view.activeState === "" ? "Pending" : view.activeState, message };
  }
  return { status: "False", reason: view.failure?.reason ?? (view.activeState === "" ? "Pending" : view.activeState), message };
}

function restOf({ rest, tls }: Endpoints): string {
  return `${tls ? "https" : "http"}://${rest}`;
}

function base(failure: FailureView): Readonly<Record<string, unknown>> {
  const { location, reason, message, time } = failure;
  return { location, reason, message: message.slice(0, 1_000).toWellFormed(), time };
}

/** The same failure keeps the time at which it was first seen. */
function keepTime(
  failure: FailureView | undefined,
  before: Readonly<Record<string, unknown>>,
  revisionField: string,
): FailureView | undefined {
  if (failure === undefined) return undefined;
  const isSame =
    before["reason"] === failure.reason &&
    before["message"] === failure.message.slice(0, 1_000) &&
    before[revisionField] === failure.revision;
  return { ...failure, time: (isSame ? text(before["time"]) : undefined) ?? failure.time };
}

function withoutUndefined(value: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined));
}
