// Owns how many pods a runtime is to have. Pure: what is seen and a time in, a number with its reason out.
//
//   no model could use it            -> 0 after graceMs
//   models, but no traffic           -> 0 after idleMs, if it may sleep; a request wakes it
//   models and traffic               -> its minimum, and more while loads queue or copies are evicted young, up to its most
//
// Invariants: up at once, down only after a pause without reason to stay, so that it does not swing; never outside minimum
// and maximum, but for 0.
import type { PodSeen } from "../gateway.ts";

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

export function scaleRuntime(policy: ScalePolicy, state: ScaleState | undefined, seen: ScaleSeen): Scaled {
  const { nowMs, models, wokenAtMs } = seen;
  const busy = seen.pods.some(({ requestsPerSecond, queued, loading }) => requestsPerSecond > 0 || queued > 0 || loading > 0);
  const usedAtMs = models > 0 ? nowMs : state?.usedAtMs;
  // What is seen for the first time was busy until now: nothing is known of what came before.
  const first = state === undefined || (models > 0 && state.pods === 0 && state.usedAtMs === undefined);
  const busyAtMs = Math.max(busy || first ? nowMs : (state?.busyAtMs ?? nowMs), wokenAtMs ?? Number.NEGATIVE_INFINITY);
  const next = { usedAtMs, busyAtMs };
  if (models === 0 && (usedAtMs === undefined || nowMs - usedAtMs >= policy.graceMs)) {
    return decide(0, "no model can use it", { ...next, pods: 0, pressedAtMs: nowMs });
  }
  if (policy.sleeps && models > 0 && nowMs - busyAtMs >= policy.idleMs) {
    return decide(0, `no request for ${describeMs(policy.idleMs)}; the next one wakes it`, {
      ...next,
      pods: 0,
      pressedAtMs: nowMs,
    });
  }
  const least = Math.max(1, policy.least);
  const most = Math.max(least, policy.most);
  const now = Math.min(most, Math.max(least, state?.pods ?? least));
  const pressure = findPressure(seen.pods);
  if (state !== undefined && state.pods === 0) {
    const why = wokenAtMs === undefined ? "models can use it" : "a request waits for it";
    return decide(least, why, { ...next, pods: least, pressedAtMs: nowMs });
  }
  if (pressure !== undefined) {
    // One more at a time, once the last one has had time to help.
    const grown = nowMs - (state?.pressedAtMs ?? 0) >= policy.calmMs / 10 ? Math.min(most, now + 1) : now;
    return decide(grown, grown > least ? pressure : "in use", {
      ...next,
      pods: grown,
      pressedAtMs: grown > now ? nowMs : (state?.pressedAtMs ?? nowMs),
    });
  }
  if (now > least && nowMs - (state?.pressedAtMs ?? nowMs) >= policy.calmMs) {
    return decide(now - 1, "calm", { ...next, pods: now - 1, pressedAtMs: nowMs });
  }
  return decide(now, "in use", { ...next, pods: now, pressedAtMs: state?.pressedAtMs ?? nowMs });
}

/** When a decision may differ without anything being told. */
export function nextScaleMs(policy: ScalePolicy): number {
  return Math.max(500, Math.min(5_000, policy.graceMs / 4, policy.sleeps ? policy.idleMs / 4 : 5_000));
}

function findPressure(pods: readonly PodSeen[]): string | undefined {
  const live = pods.filter(({ reachable, draining }) => reachable && !draining);
  if (live.length === 0) return undefined;
  const queued = live.reduce((sum, pod) => sum + pod.queued, 0);
  if (queued > queuePressed * live.length) return `${queued} loads wait for ${live.length} pods`;
  const tight = live.filter(
    ({ usedBytes, capacityBytes, oldestIdleMs, evictions }) =>
      evictions > 0 && capacityBytes > 0 && usedBytes > capacityBytes * 0.9 && oldestIdleMs < youngMs,
  );
  return tight.length === live.length ? "every pod is full of models that were used within a minute" : undefined;
}

function decide(pods: number, why: string, state: ScaleState): Scaled {
  return { wanted: { pods, why }, state };
}

function describeMs(ms: number): string {
  return ms >= 60_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 1_000)} s`;
}
