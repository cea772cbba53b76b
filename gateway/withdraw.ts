// Owns when a withdrawal may be acknowledged: when Envoy has acknowledged routes without the leaving copies. An Envoy that
// does not answer is waited for briefly only: what it still sends there is rerouted.
import type { CopyChange } from "./fleet.ts";
import type { Routes } from "./routes.ts";

const patienceMs = 2_000;

export function createWithdrawn(routes: Routes): (changes: readonly CopyChange[]) => Promise<void> {
  return async (changes) => {
    const signal = AbortSignal.timeout(patienceMs);
    const models = new Set(changes.filter(({ state }) => state === "leaving").map(({ model }) => model));
    await Promise.allSettled([...models].map((model) => routes.whenSettled(model, signal)));
  };
}
