// Owns how a runtime's objects are made, kept and taken away, and its record in the registry, by which gateways know that a
// runtime without pods may be woken.
// Invariants: everything made carries our mark and is ours alone; a runtime that cannot run, is disabled or is not for many
// models has no pods; what another hand changed is changed back.
import { createHash } from "node:crypto";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { changesStatus } from "../conditions.ts";
import { fieldManager, type KubeClient } from "../engine/client.ts";
import type { KubeObject, ResourceType } from "../engine/objects.ts";
import { done, type Outcome } from "../engine/reconcile.ts";
import type { Recorder, Regarding } from "../events.ts";
import type { PodSeen } from "../gateway.ts";
import {
  autoscalers,
  clusterServingRuntimes,
  deployments,
  networkPolicies,
  podDisruptionBudgets,
  services,
  servingRuntimes,
} from "../kinds.ts";
import { bindServer } from "./binding.ts";
import { buildRuntime, deploymentName, type RuntimeSettings } from "./desired.ts";
import { mountedClaims } from "./mounts.ts";
import type { RuntimeRecords } from "./records.ts";
import type { Runtime } from "./runtime.ts";
import { nextScaleMs, type PodsWanted, replicasOf, type ScalePolicy, type ScaleState, scaleRuntime } from "./scale.ts";
import { buildRuntimeStatus, readDeployment } from "./status.ts";

export interface RuntimeParts {
  readonly client: Pick<KubeClient, "apply" | "delete" | "mergeStatus" | "get">;
  readonly settings: RuntimeSettings;
  readonly policy: Omit<ScalePolicy, "least" | "most">;
  readonly maxPodsPerRuntime: number;
  readonly writeClusterStatus: boolean;
  /** Those of this name: the namespace's own, the cluster's. */
  readonly own: (name: string) => Runtime | undefined;
  readonly shared: (name: string) => Runtime | undefined;
  readonly deployment: (name: string) => KubeObject | undefined;
  /** How many models could use it; undefined while not every model has been looked at. */
  readonly users: (runtime: string) => number | undefined;
  readonly claims: (runtime: string, mounted: readonly string[]) => Promise<readonly string[]>;
  readonly pods: (runtime: string) => readonly PodSeen[];
  readonly podTrouble: (deployment: string) => string | undefined;
  readonly records: RuntimeRecords;
  readonly recorder: Recorder;
  readonly clock: Clock;
  readonly log: Log;
}

export interface RuntimeReconciler {
  reconcile(name: string): Promise<Outcome>;
}

interface Applied {
  readonly hash: string;
  readonly generation: number;
}

export function createRuntimeReconciler(parts: RuntimeParts): RuntimeReconciler {
  const { client, settings, clock, log } = parts;
  const { namespace } = settings;
  const states = new Map<string, ScaleState>();
  /** When a runtime was last seen to be given pods. */
  const upAtMs = new Map<string, number>();
  /** `Kind/name` -> what was applied, and the generation that the API server gave it. */
  const applied = new Map<string, Applied>();

  async function apply(
    type: ResourceType,
    object: { readonly metadata?: { readonly name?: string; readonly namespace?: string } },
    seen?: KubeObject,
  ): Promise<KubeObject | undefined> {
    const key = `${type.kind}/${object.metadata?.name ?? ""}`;
    const hash = createHash("sha256").update(JSON.stringify(object)).digest("hex");
    const last = applied.get(key);
    // Of a Deployment it is seen when another hand has changed it; the others are applied anew now and then.
    const isUntouched = seen === undefined ? type !== deployments : seen.metadata.generation === last?.generation;
    if (last?.hash === hash && isUntouched) return seen;
    const answer = await client.apply(type, object);
    applied.set(key, { hash, generation: answer.metadata.generation });
    return answer;
  }

  async function remove(type: ResourceType, name: string): Promise<void> {
    if (applied.get(`${type.kind}/${name}`)?.hash === "") return;
    await client.delete(type, namespace, name);
    applied.set(`${type.kind}/${name}`, { hash: "", generation: 0 });
  }

  /** Everything that a runtime of this name was made of. */
  async function clear(name: string): Promise<void> {
    const at = deploymentName(name, settings.serviceName);
    const side = at.replaceAll(".", "-").toLowerCase();
    states.delete(name);
    upAtMs.delete(name);
    if (parts.deployment(at) !== undefined) {
      await client.delete(deployments, namespace, at);
      log.info("a runtime's pods are taken away", { runtime: name });
    }
    await remove(autoscalers, at);
    for (const type of [services, networkPolicies, podDisruptionBudgets]) await remove(type, side);
    await parts.records.remove(name);
  }

  function decide(runtime: Runtime): { readonly wanted: PodsWanted; readonly policy: ScalePolicy } {
    const least = runtime.replicas ?? settings.podsPerRuntime;
    const policy = { ...parts.policy, least, most: runtime.replicas ?? Math.max(least, parts.maxPodsPerRuntime) };
    const users = parts.users(runtime.name);
    const deployed = parts.deployment(deploymentName(runtime.name, settings.serviceName));
    const before =
      states.get(runtime.name) ??
      (deployed === undefined
        ? undefined
        : {
            pods: readDeployment(deployed.body, "", 0).replicas,
            usedAtMs: clock.monotonicMs(),
            busyAtMs: clock.monotonicMs(),
            // Not known: no count is more than it.
            evictions: Number.POSITIVE_INFINITY,
            evictedAtMs: Number.NEGATIVE_INFINITY,
            grownAtMs: clock.monotonicMs(),
            pressedAtMs: clock.monotonicMs(),
          });
    const { wanted, state } = scaleRuntime(policy, before, {
      // Until every model was looked at, nothing is taken away.
      models: users ?? (before === undefined ? 0 : Math.max(1, before.pods)),
      pods: parts.pods(runtime.name),
      wokenAtMs: parts.records.wokenAtMs(runtime.name),
      nowMs: clock.monotonicMs(),
    });
    if (users === undefined && wanted.pods < (before?.pods ?? 0))
      return { wanted: { pods: before?.pods ?? 0, why: "starting" }, policy };
    states.set(runtime.name, state);
    return { wanted, policy };
  }

  async function keep(runtime: Runtime): Promise<{ readonly wanted: PodsWanted; readonly ms: number }> {
    const { wanted: decided, policy } = decide(runtime);
    const deployed = parts.deployment(deploymentName(runtime.name, settings.serviceName));
    const seen = deployed === undefined ? undefined : readDeployment(deployed.body, "", 0).replicas;
    const wokenAtMs = parts.records.wokenAtMs(runtime.name) ?? Number.NEGATIVE_INFINITY;
    if (seen !== undefined && seen > 0) upAtMs.set(runtime.name, clock.monotonicMs());
    const replicas = replicasOf(runtime.scaling, decided, {
      replicas: seen,
      setByOthers: deployed?.metadata.scaledBy.some((manager) => manager !== fieldManager) === true,
      awaited: wokenAtMs > (upAtMs.get(runtime.name) ?? Number.NEGATIVE_INFINITY),
    });
    const isScaledElsewhere = runtime.scaling === "external" || (runtime.scaling === "hpa" && decided.pods > 0);
    const wanted = isScaledElsewhere ? { pods: replicas ?? seen ?? 0, why: "its autoscaler says so" } : decided;
    // Without pods there is nothing to start anew, and the claims are what they should be.
    const mounted = deployed === undefined || wanted.pods === 0 ? [] : mountedClaims(deployed.body);
    const objects = buildRuntime(runtime, settings, replicas, await parts.claims(runtime.name, mounted));
    const at = objects.deployment.metadata?.name ?? "";
    // The record comes before the pods go, so that no request finds neither.
    const sleeps = policy.sleeps || runtime.scaling === "external";
    await parts.records.put({ name: runtime.name, sleeps, asleep: wanted.pods === 0 });
    await apply(networkPolicies, objects.networkPolicy);
    await apply(services, objects.service);
    await apply(podDisruptionBudgets, objects.podDisruptionBudget);
    const made = await apply(deployments, objects.deployment, parts.deployment(at));
    if (replicas !== undefined && made !== undefined) {
      const why = isScaledElsewhere && decided.pods === 0 ? "until its autoscaler says otherwise" : decided.why;
      tellScaled(runtime, made, seen ?? 0, { pods: replicas, why });
    }
    if (objects.autoscaler === undefined || wanted.pods === 0) await remove(autoscalers, at);
    else await apply(autoscalers, objects.autoscaler);
    return { wanted, ms: nextScaleMs(policy) };
  }

  function tellScaled(runtime: Runtime, made: KubeObject, before: number, { pods, why }: PodsWanted): void {
    if (pods === before) return;
    parts.recorder.tell(
      regardingOf(runtime, made),
      pods > before ? "ScaledUp" : "ScaledDown",
      `from ${before} to ${pods}: ${why}`,
    );
  }

  /** Events of what has no namespace would be nowhere near its pods: those of the cluster's runtimes are beside the Deployment. */
  function regardingOf({ name, uid, namespace: own }: Runtime, { metadata }: KubeObject): Regarding {
    return own === undefined
      ? { kind: "Deployment", type: deployments, name: metadata.name, namespace, uid: metadata.uid }
      : { kind: "ServingRuntime", type: servingRuntimes, name, namespace: own, uid };
  }

  async function writeStatus(runtime: Runtime, wanted: PodsWanted | undefined): Promise<void> {
    const isShared = runtime.namespace === undefined;
    if (isShared && !parts.writeClusterStatus) return;
    const at = deploymentName(runtime.name, settings.serviceName);
    const seen = parts.deployment(at);
    const status = buildRuntimeStatus(
      runtime,
      {
        wanted,
        deployment: seen === undefined ? undefined : readDeployment(seen.body, at, seen.metadata.generation),
        binding: runtime.faults.length === 0 && runtime.multiModel ? bindServer(runtime) : undefined,
        podTrouble: parts.podTrouble(at),
      },
      clock.now(),
    );
    if (!changesStatus(status, runtime.status)) return;
    const text = JSON.stringify(status);
    const key = `status/${runtime.uid}`;
    if (applied.get(key)?.hash === text) return;
    await client.mergeStatus(isShared ? clusterServingRuntimes : servingRuntimes, runtime.namespace, runtime.name, status);
    applied.set(key, { hash: text, generation: runtime.generation });
    if (runtime.faults.length > 0 && runtime.namespace !== undefined) {
      const regarding = {
        kind: "ServingRuntime",
        type: servingRuntimes,
        name: runtime.name,
        namespace: runtime.namespace,
        uid: runtime.uid,
      };
      parts.recorder.warn(regarding, "InvalidRuntime", runtime.faults.join("; "));
    }
  }

  return {
    async reconcile(name) {
      const own = parts.own(name);
      const shared = parts.shared(name);
      const runtime = own ?? shared;
      if (runtime === undefined) {
        await clear(name);
        return done;
      }
      if (runtime.disabled || !runtime.multiModel || runtime.faults.length > 0) {
        await clear(name);
        await writeStatus(runtime, undefined);
        return done;
      }
      const { wanted, ms } = await keep(runtime);
      await writeStatus(runtime, wanted);
      return { kind: "after", ms };
    },
  };
}
