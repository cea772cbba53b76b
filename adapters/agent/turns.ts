// Owns the waiting of loads that have their artefact for their turn at the model server.
import { orAborted } from "#platform/clock.ts";

export interface Turns {
  /** Tells that it waits, and resolves when it is its turn; rejects with the signal's reason. */
  wait(key: string, signal: AbortSignal): Promise<void>;
  admit(key: string): void;
}

export function createTurns(onWaiting: (key: string) => void): Turns {
  const waiting = new Map<string, () => void>();
  return {
    async wait(key, signal) {
      signal.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.set(key, resolve);
      try {
        onWaiting(key);
        await orAborted(promise, signal);
      } finally {
        waiting.delete(key);
      }
    },
    admit: (key) => waiting.get(key)?.(),
  };
}
