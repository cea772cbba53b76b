// Owns how many pods a runtime is to have. Pure: what is seen and a time in, a number with its reason out.
//
//   no model could use it            -> 0 after graceMs, at once if it has none
//   models, but no traffic           -> 0 after idleMs, if it may sleep; a request wakes it, and keeps it awake while it waits
//   models and traffic               -> its minimum, and more while loads queue or copies are evicted young, up to its most
//
// Invariants: up at once, but one at a time and once the last one has had time to help; down only after a pause without reason
// to stay, and only when those that are left will do, so that it does not swing; never outside minimum and maximum, but for 0.
import type { PodSeen } from "../gateway.ts";
import type { Scaling } from "./runtime.ts";

export interface ScalePolicy {
  /** Pods while it is in use. */
  readonly least: number;
  readonly most: number;
  readonly sleeps: boolean;
  readonly graceMs: number;
  readonly idleMs: number;
  /** Between two changes downwards. */
  readonly calmMs: number;
}

/** What is known of a runtime; times are on one monotonic scale. */
export interface ScaleState {
  /** Now, as last decided. */
  readonly pods: number;
  /** The last time that a model could use it, a request or a load was seen, or it was woken. */
  readonly usedAtMs: number | undefined;
  readonly busyAtMs: number | undefined;
  /** Of its pods in all, and the last time that it was more than before. */
  readonly evictions: number;
  readonly evictedAtMs: number;
  /** The last time that there was one more. */
  readonly grownAtMs: number;
  /** The last time that the number changed, or had a reason to stay. */
  readonly pressedAtMs: number;
}

export interface ScaleSeen {
  /** How many models could use it. */
  readonly models: number;
  readonly pods: readonly PodSeen[];
  /** A request waits for it since this time. */
  readonly wokenAtMs: number | undefined;
  readonly nowMs: number;
}

export interface PodsWanted {
  readonly pods: number;
  readonly why: string;
}

export interface Scaled {
  readonly wanted: PodsWanted;
  readonly state: ScaleState;
}

/** A copy that was evicted when it had been used so lately is missed again soon: there is too little memory. */
const youngMs = 60_000;
const queuePressed = 4;
/** Gateways say every 5 s that a request waits, until a pod is up; then what it does there must be seen. */
const awaitedMs = 15_000;
/** Of a pod's memory: above it the pod is full. */
const full = 0.9;
/** Those that are left after one has gone get its models too: by so much are they to be further from want than that takes. */
const margin = 1.5;

export function scaleRuntime(policy: ScalePolicy, state: ScaleState | undefined, seen: ScaleSeen): Scaled {
  const { nowMs, models, wokenAtMs } = seen;
  const busy = seen.pods.some(({ requestsPerSecond, queued, loading }) => requestsPerSecond > 0 || queued > 0 || loading > 0);
  const usedAtMs = models > 0 ? nowMs : state?.usedAtMs;
  // What is seen for the first time was busy until now: nothing is known of what came before.
  const first = state === undefined || (models > 0 && state.pods === 0 && state.usedAtMs === undefined);
  const busyAtMs = Math.max(busy || first ? nowMs : (state?.busyAtMs ?? nowMs), wokenAtMs ?? Number.NEGATIVE_INFINITY);
  const live = seen.pods.filter(({ reachable, draining }) => reachable && !draining);
  // A counter of each pod: what one that has gone had counted is missing from now on.
  const evictions = live.reduce((sum, pod) => sum + pod.evictions, 0);
  const isEvicting = state !== undefined && evictions > state.evictions;
  const evictedAtMs = isEvicting ? nowMs : (state?.evictedAtMs ?? Number.NEGATIVE_INFINITY);
  const next = { usedAtMs, busyAtMs, evictions, evictedAtMs };
  // One that sleeps has no pods to keep for a while.
  if (models === 0 && (usedAtMs === undefined || state?.pods === 0 || nowMs - usedAtMs >= policy.graceMs)) {
    return decide(0, "no model can use it", { ...next, pods: 0, grownAtMs: nowMs, pressedAtMs: nowMs });
  }
  const awaited = wokenAtMs !== undefined && nowMs - wokenAtMs < awaitedMs;
  if (policy.sleeps && models > 0 && !awaited && nowMs - busyAtMs >= policy.idleMs) {
    return decide(0, `no request for ${describeMs(policy.idleMs)}; the next one wakes it`, {
      ...next,
      pods: 0,
      grownAtMs: nowMs,
      pressedAtMs: nowMs,
    });
  }
  const least = Math.max(1, policy.least);
  const most = Math.max(least, policy.most);
  const now = Math.min(most, Math.max(least, state?.pods ?? least));
  const pressure = findPressure(live, nowMs - evictedAtMs < youngMs);
  const grownAtMs = state?.grownAtMs ?? Number.NEGATIVE_INFINITY;
  if (state !== undefined && state.pods === 0) {
    const why = wokenAtMs === undefined ? "models can use it" : "a request waits for it";
    return decide(least, why, { ...next, pods: least, grownAtMs: nowMs, pressedAtMs: nowMs });
  }
  if (pressure !== undefined) {
    // One that is not up yet has not had its chance; one that never comes up is not waited for without end.
    const sinceMs = nowMs - grownAtMs;
    const hadTime = live.length >= now ? sinceMs >= policy.calmMs / 10 : sinceMs >= policy.calmMs;
    const grown = hadTime ? Math.min(most, now + 1) : now;
    return decide(grown, grown > least ? pressure : "in use", {
      ...next,
      pods: grown,
      grownAtMs: grown > now ? nowMs : grownAtMs,
      pressedAtMs: nowMs,
    });
  }
  // One less must do all the while, and not by chance for a moment.
  const pressedAtMs = now > least && !suffice(live, now - 1) ? nowMs : (state?.pressedAtMs ?? nowMs);
  if (now > least && nowMs - pressedAtMs >= policy.calmMs)
    return decide(now - 1, "calm", { ...next, pods: now - 1, grownAtMs, pressedAtMs: nowMs });
  return decide(now, "in use", { ...next, pods: now, grownAtMs, pressedAtMs });
}

/** When a decision may differ without anything being told. */
export function nextScaleMs(policy: ScalePolicy): number {
  return Math.max(500, Math.min(5_000, policy.graceMs / 4, policy.sleeps ? policy.idleMs / 4 : 5_000));
}

export interface ReplicasSeen {
  /** Of its Deployment; undefined while there is none. */
  readonly replicas: number | undefined;
  /** Somebody else has set them. */
  readonly setByOthers: boolean;
  /** A request waits for a pod. */
  readonly awaited: boolean;
}

/**
 * The number that its Deployment is given; undefined leaves it to who has set it. A number that nobody else has set is not taken
 * away, or the API server would make it 1: it stays until the autoscaler sets another.
 */
export function replicasOf(scaling: Scaling, { pods }: PodsWanted, seen: ReplicasSeen): number | undefined {
  const { replicas, setByOthers, awaited } = seen;
  if (scaling === "own" || (scaling === "hpa" && pods === 0)) return pods;
  if (replicas !== undefined && replicas > 0) return setByOthers ? undefined : replicas;
  // At zero an HPA does nothing; another autoscaler has its reasons, as long as nobody waits.
  if (scaling === "hpa" || (replicas === 0 && !setByOthers && !awaited)) return pods;
  return replicas === undefined || awaited ? Math.max(1, pods) : undefined;
}

function findPressure(live: readonly PodSeen[], evicting: boolean): string | undefined {
  if (live.length === 0) return undefined;
  const queued = live.reduce((sum, pod) => sum + pod.queued, 0);
  if (queued > queuePressed * live.length) return `${queued} loads wait for ${live.length} pods`;
  const tight = live.filter(
    ({ usedBytes, capacityBytes, oldestIdleMs }) =>
      capacityBytes > 0 && usedBytes > capacityBytes * full && oldestIdleMs < youngMs,
  );
  return evicting && tight.length === live.length ? "every pod is full of models that were used within a minute" : undefined;
}

/** Whether so many would hold what these hold, or what they would evict has not been used for long. */
function suffice(live: readonly PodSeen[], left: number): boolean {
  // What is not seen is not taken away.
  if (live.length <= left) return false;
  const used = live.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
  const capacity = live.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0);
  const shrunk = left / live.length;
  if (used <= capacity * shrunk * full) return true;
  return live.every(({ oldestIdleMs }) => oldestIdleMs * shrunk >= youngMs * margin);
}

function decide(pods: number, why: string, state: ScaleState): Scaled {
  return { wanted: { pods, why }, state };
}

function describeMs(ms: number): string {
  return ms >= 60_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 1_000)} s`;
}
