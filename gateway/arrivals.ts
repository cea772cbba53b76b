// Owns how long a fleet without its pods is hoped for: what has just left, or was just lost, often comes back. Its machine
// was too busy to be heard, its process is started again, or another takes its place.
// Invariants: nobody is waited for longer than `arrivalMs` after it was last there; where a pod is, none is hoped for but
// those that are known to be on their way.
import type { Clock } from "#platform/clock.ts";

/** A pod as the registry and its Link tell of it. */
export interface Expected {
  readonly runtime: string | undefined;
  readonly linked: boolean;
  /** The registry does not name it any more. */
  readonly absent: boolean;
  /** Since when it has not been linked, if it is not. */
  readonly missingMs: number;
}

export interface Arrivals {
  /** Not to be heard of again, unless it comes anew. */
  left(pod: Expected): void;
  /** Whether a request for a model of this runtime, or of any, has reason to wait for a pod. */
  awaits(runtime: string | undefined, pods: Iterable<Expected>): boolean;
}

/** A pod that could not be linked for so long is counted on no more. */
const arrivalMs = 15_000;

export function createArrivals(clock: Pick<Clock, "monotonicMs">): Arrivals {
  const startMs = clock.monotonicMs();
  /** When the last pod of each runtime was there; few, and none for long. */
  const leftMs = new Map<string | undefined, number>();

  function hasJustLeft(runtime: string | undefined, sinceMs: number): boolean {
    for (const [its, atMs] of leftMs) if (atMs > sinceMs && mayRun(its, runtime)) return true;
    return false;
  }

  return {
    left({ runtime, linked, missingMs }) {
      const nowMs = clock.monotonicMs();
      for (const [its, atMs] of leftMs) if (atMs <= nowMs - arrivalMs) leftMs.delete(its);
      const atMs = Math.max(leftMs.get(runtime) ?? 0, linked ? nowMs : missingMs);
      leftMs.set(runtime, atMs);
    },
    awaits(runtime, pods) {
      const sinceMs = clock.monotonicMs() - arrivalMs;
      let there = false;
      let known = false;
      for (const pod of pods) {
        known = true;
        if (!mayRun(pod.runtime, runtime)) continue;
        if (pod.linked) there = true;
        else if (!pod.absent && pod.missingMs > sinceMs) return true;
      }
      // A pod whose lease ended while this gateway started takes another one.
      if (!known && startMs > sinceMs) return true;
      return !there && hasJustLeft(runtime, sinceMs);
    },
  };
}

/** Where either does not say which runtime, it may be this one. */
function mayRun(its: string | undefined, runtime: string | undefined): boolean {
  return runtime === undefined || its === undefined || its === runtime;
}
