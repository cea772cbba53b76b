// Owns which models are suspected of killing model servers: those that load them, as all gateways hear it on their Links,
// and those that are asked for them, as this gateway sees by the requests that come back, and the home of a model by what
// other gateways tell with theirs.
import { createDeaths } from "#core/deaths.ts";
import { createSuspicions } from "#core/suspicion.ts";
import type { Clock } from "#platform/clock.ts";
import type { Failure } from "./failure.ts";
import { type CopyChange, type CopyName, copyKey, modelOfKey } from "./fleet.ts";

export interface Suspects {
  /** To be called before whoever decides on these copies. */
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** A request for the revision came back without an answer from one of these pods. */
  onReturned(copy: CopyName, podIds: readonly string[]): void;
  onServerDied(podId: string): void;
  /** Requests for the model were answered well. */
  onAnswered(model: string, requests: number): void;
  /** What to answer while the revision is kept off the pods; undefined when it is not. */
  check(key: string): Failure | undefined;
  /** Once a second: tells which models are kept off no longer. */
  tick(): void;
}

const maxSuspects = 10_000;

/** `onChange`: told when requests for a model that may have copies are to be refused, or to be let on again. */
export function createSuspects(clock: Pick<Clock, "monotonicMs">, onChange: (model: string) => void = () => undefined): Suspects {
  const suspicions = createSuspicions({ maxSuspects });
  const deaths = createDeaths({ maxSuspects, modelOf: modelOfKey });
  /** Kept off, as was told. */
  const kept = new Set<string>();

  function tell(key: string): void {
    if (kept.has(key) || deaths.check(key, clock.monotonicMs()) === undefined) return;
    kept.add(key);
    onChange(modelOfKey(key));
  }

  return {
    onCopies(podId, changes) {
      for (const change of changes) {
        if (change.state === "ready" && suspicions.size > 0) suspicions.cleared(copyKey(change));
        if (change.state !== "failed" || change.failure?.kind !== "server-died") continue;
        suspicions.died(copyKey(change), podId, change.failure.suspects ?? 1, clock.monotonicMs());
      }
    },
    onReturned(copy, podIds) {
      const key = copyKey(copy);
      deaths.returned(key, podIds, clock.monotonicMs());
      tell(key);
    },
    onServerDied(podId) {
      for (const key of deaths.died(podId, clock.monotonicMs())) tell(key);
    },
    onAnswered(model, requests) {
      if (requests > 0) deaths.answered(model, requests, clock.monotonicMs());
    },
    check(key) {
      const nowMs = clock.monotonicMs();
      const loading = suspicions.check(key, nowMs);
      const found = loading ?? deaths.check(key, nowMs);
      if (found === undefined) return undefined;
      const what = loading === undefined ? "were asked for it" : "loaded it";
      const reason = `the model servers of ${found.podIds.join(", ")} died while they ${what}: it is kept off the pods for a while`;
      return { kind: "failed", code: "model-load-failed", reason, retryAfterMs: found.untilMs - nowMs };
    },
    tick() {
      for (const key of deaths.released(clock.monotonicMs())) {
        if (kept.delete(key)) onChange(modelOfKey(key));
      }
    },
  };
}
