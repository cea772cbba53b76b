// Owns what pods were asked to drop and have not said yet that it leaves: for whoever counts copies it has gone already.
// Invariants: two who each keep one copy can never take each other's; a drop that a pod does not heed is forgotten.
import type { Clock } from "#platform/clock.ts";
import { type CopyChange, copyKey, type Fleet } from "./fleet.ts";

export interface Drops {
  send(podId: string, model: string, revision: string): void;
  /** Asked to, and not heard of since. */
  isAsked(podId: string, key: string): boolean;
  /** The copy is ready, and is to stay for all that is known: its pod can be reached and is not being emptied. */
  isHeld(podId: string, key: string): boolean;
  onCopies(podId: string, changes: readonly CopyChange[]): void;
}

export interface DropsParts {
  readonly fleet: Pick<Fleet, "pod">;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly sendDrop: (podId: string, model: string, revision: string) => void;
}

/** A pod that has not begun by then has not heard of it: its Link broke, or it stands still. */
const heedMs = 10_000;

export function createDrops({ fleet, clock, sendDrop }: DropsParts): Drops {
  /** When each was asked for, in that order. */
  const asked = new Map<string, number>();
  const nameOf = (podId: string, key: string): string => `${podId} ${key}`;

  function isAsked(podId: string, key: string): boolean {
    const sinceMs = asked.get(nameOf(podId, key));
    return sinceMs !== undefined && clock.monotonicMs() - sinceMs < heedMs;
  }

  return {
    send(podId, model, revision) {
      const nowMs = clock.monotonicMs();
      for (const [name, sinceMs] of asked) {
        if (nowMs - sinceMs < heedMs) break;
        asked.delete(name);
      }
      const name = nameOf(podId, copyKey({ model, revision }));
      asked.delete(name);
      asked.set(name, nowMs);
      sendDrop(podId, model, revision);
    },
    isAsked,
    isHeld(podId, key) {
      const pod = fleet.pod(podId);
      if (pod?.reachable !== true || pod.gauges.draining) return false;
      return pod.copies.get(key)?.state === "ready" && !isAsked(podId, key);
    },
    onCopies(podId, changes) {
      if (asked.size === 0) return;
      for (const change of changes) if (change.state !== "ready") asked.delete(nameOf(podId, copyKey(change)));
    },
  };
}
