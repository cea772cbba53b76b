// Owns which models are suspected of killing the model servers that load them, as all gateways hear it on their Links.
import { createSuspicions } from "#core/suspicion.ts";
import type { Clock } from "#platform/clock.ts";
import type { Failure } from "./failure.ts";
import { type CopyChange, copyKey } from "./fleet.ts";

export interface Suspects {
  /** To be called before whoever decides on these copies. */
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** What to answer while the revision is kept off the pods; undefined when it is not. */
  check(key: string): Failure | undefined;
}

const maxSuspects = 10_000;

export function createSuspects(clock: Pick<Clock, "monotonicMs">): Suspects {
  const suspicions = createSuspicions({ maxSuspects });
  return {
    onCopies(podId, changes) {
      for (const change of changes) {
        if (change.state === "ready" && suspicions.size > 0) suspicions.cleared(copyKey(change));
        if (change.state !== "failed" || change.failure?.kind !== "server-died") continue;
        suspicions.died(copyKey(change), podId, change.failure.suspects ?? 1, clock.monotonicMs());
      }
    },
    check(key) {
      const nowMs = clock.monotonicMs();
      const found = suspicions.check(key, nowMs);
      if (found === undefined) return undefined;
      const reason = `the model servers of ${found.podIds.join(", ")} died while they loaded it: it is kept off the pods for a while`;
      return { kind: "failed", code: "model-load-failed", reason, retryAfterMs: found.untilMs - nowMs };
    },
  };
}
