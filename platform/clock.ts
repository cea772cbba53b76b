// Owns time: the one place that reads the system's clocks. What decides by time takes a Clock, so tests move it by hand.
import { setTimeout as delay } from "node:timers/promises";

export interface Clock {
  /** Wall-clock milliseconds since 1970: for people and records, may jump. */
  now(): number;
  /** Milliseconds that never go backwards: for deadlines and durations. */
  monotonicMs(): number;
}

export const systemClock: Clock = Object.freeze({
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
});

export interface ManualClock extends Clock {
  /** Moves both readings forward. */
  advance(ms: number): void;
}

export function createManualClock(startMs = 0): ManualClock {
  let elapsedMs = 0;
  return {
    now: () => startMs + elapsedMs,
    monotonicMs: () => elapsedMs,
    advance(ms: number): void {
      if (ms < 0) throw new RangeError("a clock does not go backwards");
      elapsedMs += ms;
    },
  };
}

/** Resolves after `ms`; rejects with the signal's reason when it is aborted first. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** The work's outcome, or the signal's reason if that is aborted first: the work goes on, and nobody waits for it. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  // How it ends is nobody's concern any more, also when it is an error.
  if (signal.aborted) work.catch(() => undefined);
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Resolves when the signal is aborted; the timer keeps the process alive meanwhile, as a waiting main must. */
export async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const alive = setInterval(() => undefined, 2 ** 30);
  signal.addEventListener("abort", () => resolve(), { once: true });
  try {
    await promise;
  } finally {
    clearInterval(alive);
  }
}
