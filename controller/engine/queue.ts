// Owns the keys that wait to be worked on.
//
//   add --> waiting --take--> at work --done--> gone
//              ^                 | added meanwhile
//              +-----------------+
//   retry, addAfter --> delayed --time over--> waiting
//
// Invariants: a key is waiting at most once and at work at most once; a key that is added while it is at work is worked
// on again afterwards, so no change is lost; one key's failures delay only that key, by pauses that grow.
import type { Clock } from "#platform/clock.ts";

export interface WorkQueue {
  add(key: string): void;
  /** An earlier time that is set already stays. */
  addAfter(key: string, delayMs: number): void;
  /** After a failure: later and later. */
  retry(key: string): void;
  /** After a success. */
  forget(key: string): void;
  /** The next key, once there is one; undefined when the queue is closed. Each key that is taken must be told `done`. */
  take(): Promise<string | undefined>;
  done(key: string): void;
  close(): void;
  /** Waiting now. */
  readonly length: number;
  /** How often this key has failed in a row. */
  failures(key: string): number;
}

export interface QueueOptions {
  readonly clock: Clock;
  readonly random?: () => number;
  readonly firstPauseMs?: number;
  readonly longestPauseMs?: number;
}

export function createQueue(options: QueueOptions): WorkQueue {
  const { clock, random = Math.random, firstPauseMs = 100, longestPauseMs = 60_000 } = options;
  /** In the order of arrival. */
  const waiting = new Set<string>();
  const atWork = new Set<string>();
  const again = new Set<string>();
  const failures = new Map<string, number>();
  const delayed = new Map<string, { readonly atMs: number; readonly timer: NodeJS.Timeout }>();
  const takers: ((key: string | undefined) => void)[] = [];
  let closed = false;

  function add(key: string): void {
    if (closed) return;
    const later = delayed.get(key);
    clearTimeout(later?.timer);
    delayed.delete(key);
    if (atWork.has(key)) {
      again.add(key);
      return;
    }
    waiting.add(key);
    serve();
  }

  function serve(): void {
    while (takers.length > 0) {
      const [key] = waiting;
      if (key === undefined) return;
      waiting.delete(key);
      atWork.add(key);
      takers.shift()?.(key);
    }
  }

  function addAfter(key: string, delayMs: number): void {
    if (closed) return;
    if (delayMs <= 0) return add(key);
    const atMs = clock.monotonicMs() + delayMs;
    const known = delayed.get(key);
    if (waiting.has(key) || (known !== undefined && known.atMs <= atMs)) return;
    clearTimeout(known?.timer);
    delayed.set(key, { atMs, timer: setTimeout(() => add(key), delayMs) });
  }

  return {
    add,
    addAfter,
    retry(key) {
      const failed = failures.get(key) ?? 0;
      failures.set(key, failed + 1);
      const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(failed, 30));
      addAfter(key, pauseMs * (0.5 + random() / 2));
    },
    forget: (key) => void failures.delete(key),
    async take() {
      if (closed) return undefined;
      const { promise, resolve } = Promise.withResolvers<string | undefined>();
      takers.push(resolve);
      serve();
      return await promise;
    },
    done(key) {
      atWork.delete(key);
      if (again.delete(key)) add(key);
    },
    close() {
      closed = true;
      for (const { timer } of delayed.values()) clearTimeout(timer);
      delayed.clear();
      waiting.clear();
      again.clear();
      for (const taker of takers.splice(0)) taker(undefined);
    },
    get length() {
      return waiting.size;
    },
    failures: (key) => failures.get(key) ?? 0,
  };
}
