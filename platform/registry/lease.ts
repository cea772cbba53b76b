// Owns a lease as its holder sees it: kept alive every third of its time, fenced by the holder's own clock.
// Invariant: held() turns false no later than the registry ends the lease, for the deadline counts from before each
// extension was asked for; and it stays false.
import type { Clock } from "../clock.ts";
import type { Lease } from "./registry.ts";

export interface LeaseOptions {
  readonly id: string;
  readonly ttlMs: number;
  readonly clock: Clock;
  /** Asks the registry for another `ttlMs`; false when the lease is gone there. */
  readonly extend: () => Promise<boolean>;
  readonly close: () => Promise<void>;
}

export interface KeptLease extends Lease {
  /** `sentMs` is when the lease was asked for. */
  start(sentMs: number): void;
}

export function createLease(options: LeaseOptions): KeptLease {
  const { id, ttlMs, clock, extend, close } = options;
  const ended = new AbortController();
  let deadlineMs = 0;
  let timer: NodeJS.Timeout | undefined;

  const end = (reason: string): void => {
    clearTimeout(timer);
    ended.abort(new Error(`lease ${id}: ${reason}`));
  };
  const held = (): boolean => {
    if (!ended.signal.aborted && clock.monotonicMs() >= deadlineMs) end("not extended in time");
    return !ended.signal.aborted;
  };
  const keep = async (): Promise<void> => {
    // A lease whose time went by while this process stood still is not brought back: others may have acted on its end.
    if (!held()) return;
    const sentMs = clock.monotonicMs();
    // A registry that does not answer is asked again until the deadline.
    const found = await extend().catch(() => undefined);
    if (ended.signal.aborted) return;
    if (found === false) {
      end("ended by the registry");
      return;
    }
    if (found === true) deadlineMs = sentMs + ttlMs;
    plan();
  };
  const plan = (): void => {
    const leftMs = deadlineMs - clock.monotonicMs();
    timer = setTimeout(() => void keep(), Math.max(1, Math.min(ttlMs / 3, leftMs)));
  };

  return {
    id,
    held,
    ended: ended.signal,
    start(sentMs: number): void {
      deadlineMs = sentMs + ttlMs;
      plan();
    },
    async [Symbol.asyncDispose](): Promise<void> {
      end("closed");
      await close();
    },
  };
}
