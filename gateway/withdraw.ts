// Owns when a withdrawal may be acknowledged: when Envoy has acknowledged routes without the leaving copies. An Envoy that
// does not answer is waited for briefly only: what it still sends there is rerouted.
import type { CopyChange } from "./fleet.ts";
import type { Routes } from "./routes.ts";

const patienceMs = 2_000;

/** `onAcked`: told how long Envoy took, of those that it acknowledged in time. */
export function createWithdrawn(
  routes: Routes,
  onAcked: (ms: number) => void = () => undefined,
): (changes: readonly CopyChange[]) => Promise<void> {
  return async (changes) => {
    const startMs = performance.now();
    const signal = AbortSignal.timeout(patienceMs);
    const models = new Set(changes.filter(({ state }) => state === "leaving").map(({ model }) => model));
    await Promise.allSettled([...models].map((model) => routes.whenSettled(model, signal)));
    if (!signal.aborted) onAcked(performance.now() - startMs);
  };
}
