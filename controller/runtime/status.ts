// Owns what a runtime's status says: whether it can run, whether its pods are up, how many are wanted and why. Pure.
import { buildConditions } from "../conditions.ts";
import { list, record, text } from "../engine/objects.ts";
import type { Binding } from "./binding.ts";
import type { Runtime } from "./runtime.ts";
import type { PodsWanted } from "./scale.ts";

/** What its Deployment says; undefined while there is none. */
export interface DeploymentSeen {
  readonly name: string;
  readonly generation: number;
  readonly observedGeneration: number;
  readonly replicas: number;
  readonly readyReplicas: number;
  /** Why pods are not made or not up, in the Deployment's own words. */
  readonly trouble: string | undefined;
}

export function readDeployment(body: Readonly<Record<string, unknown>>, name: string, generation: number): DeploymentSeen {
  const spec = record(body["spec"]);
  const status = record(body["status"]);
  const conditions = list(status["conditions"]).map(record);
  const bad =
    conditions.find(({ type, status: is }) => type === "ReplicaFailure" && is === "True") ??
    conditions.find(({ type, status: is }) => type === "Progressing" && is === "False");
  return {
    name,
    generation,
    observedGeneration: count(status["observedGeneration"]),
    replicas: count(spec["replicas"]),
    readyReplicas: count(status["readyReplicas"]),
    trouble: bad === undefined ? undefined : text(bad["message"]),
  };
}

export interface RuntimeSeen {
  readonly wanted: PodsWanted | undefined;
  readonly deployment: DeploymentSeen | undefined;
  readonly binding: Binding | undefined;
  /** Why a pod that is not up is not, in its own words. */
  readonly podTrouble: string | undefined;
}

export function buildRuntimeStatus(runtime: Runtime, seen: RuntimeSeen, nowMs: number): Readonly<Record<string, unknown>> {
  const { deployment, wanted } = seen;
  const conditions = [validCondition(runtime, seen.binding), availableCondition(runtime, seen)];
  return {
    observedGeneration: runtime.generation,
    deployment: deployment?.name ?? null,
    pods: wanted?.pods ?? deployment?.replicas ?? 0,
    readyPods: deployment?.readyReplicas ?? 0,
    conditions: buildConditions(conditions, runtime.status["conditions"], runtime.generation, nowMs),
  };
}

interface Said {
  readonly type: string;
  readonly status: "True" | "False";
  readonly reason: string;
  readonly message: string;
}

function validCondition(runtime: Runtime, binding: Binding | undefined): Said {
  if (runtime.faults.length > 0)
    return { type: "Valid", status: "False", reason: "InvalidRuntime", message: runtime.faults.join("; ") };
  const changes = binding?.changes ?? [];
  const adjusted = changes.length === 0 ? [] : [`so that requests reach it: ${changes.join("; ")}`];
  const says = [...adjusted, ...runtime.unheeded];
  return says.length === 0
    ? { type: "Valid", status: "True", reason: "AsWritten", message: "" }
    : { type: "Valid", status: "True", reason: "Adjusted", message: says.join("; ") };
}

function availableCondition(runtime: Runtime, { deployment, wanted, podTrouble }: RuntimeSeen): Said {
  const no = (reason: string, message: string): Said => ({ type: "Available", status: "False", reason, message });
  if (runtime.disabled) return no("Disabled", "disabled is true");
  if (!runtime.multiModel)
    return no("NotMultiModel", "it is for one model at a time (multiModel is not true), so no pods are made");
  if (runtime.faults.length > 0) return no("InvalidRuntime", "see the condition Valid");
  if (wanted?.pods === 0) return no("ScaledToZero", wanted.why);
  if (deployment === undefined) return no("Starting", "its Deployment is being made");
  const { readyReplicas, replicas } = deployment;
  const says = `${readyReplicas} of ${replicas} pods are ready`;
  if (readyReplicas > 0)
    return { type: "Available", status: "True", reason: readyReplicas < replicas ? "PodsStarting" : "PodsReady", message: says };
  const trouble = podTrouble ?? deployment.trouble;
  return no(trouble === undefined ? "PodsStarting" : "PodsFailing", trouble === undefined ? says : `${says}: ${trouble}`);
}

function count(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : 0;
}
