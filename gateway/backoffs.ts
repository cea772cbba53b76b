// Owns the memory of failed loads: while a model is known bad, requests for it are answered at once with the reason.
// After the wait the next request tries again, so a model heals on its own. Bounded: the oldest entries are forgotten.
import type { Clock } from "#platform/clock.ts";
import type { Failure } from "./failure.ts";

export interface Backoffs {
  /** The failure to answer with, while it is too early to try again. */
  check(key: string): Failure | undefined;
  /** Returns how long, in milliseconds, the key is left alone. */
  failed(key: string, failure: Failure): number;
  /** Another gateway has found it bad and will leave it alone for so long. */
  heard(key: string, failure: Failure): void;
  succeeded(key: string): void;
}

interface Entry {
  readonly failure: Failure;
  readonly untilMs: number;
  readonly pauseMs: number;
}

const defaultMaxEntries = 10_000;
const firstPauseMs: Readonly<Partial<Record<Failure["code"], number>>> = {
  "model-load-failed": 5_000,
  "storage-unavailable": 1_000,
};
const defaultPauseMs = 250;
const longestPauseMs: Readonly<Partial<Record<Failure["code"], number>>> = {
  "model-load-failed": 300_000,
  "storage-unavailable": 30_000,
};
const defaultLongestMs = 5_000;

/** `maxEntries`: 10,000 when absent; whoever gives none makes sure himself that what he no longer asks for is forgotten. */
export function createBackoffs(clock: Clock, maxEntries = defaultMaxEntries): Backoffs {
  const entries = new Map<string, Entry>();

  function put(key: string, entry: Entry): void {
    // Deleted first, so that the map's order is the order of failures.
    entries.delete(key);
    entries.set(key, entry);
    const oldest = entries.keys().next().value;
    if (entries.size > maxEntries && oldest !== undefined) entries.delete(oldest);
  }

  return {
    check(key) {
      const entry = entries.get(key);
      if (entry === undefined) return undefined;
      const leftMs = entry.untilMs - clock.monotonicMs();
      return leftMs <= 0 ? undefined : { ...entry.failure, retryAfterMs: leftMs };
    },
    failed(key, failure) {
      const first = firstPauseMs[failure.code] ?? defaultPauseMs;
      const was = entries.get(key);
      const pauseMs =
        was === undefined ? first : Math.min(Math.max(was.pauseMs * 2, first), longestPauseMs[failure.code] ?? defaultLongestMs);
      put(key, { failure, pauseMs, untilMs: clock.monotonicMs() + pauseMs });
      return pauseMs;
    },
    heard(key, failure) {
      const pauseMs = Math.min(failure.retryAfterMs ?? 0, 300_000);
      if (pauseMs > 0) put(key, { failure, pauseMs, untilMs: clock.monotonicMs() + pauseMs });
    },
    succeeded(key) {
      entries.delete(key);
    },
  };
}
