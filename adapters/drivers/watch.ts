// Owns the watch over a model server: polls it, and tells when it is up and when it is lost. Shared by all drivers.
//
//   down --answers, and its list is read--> up --refused, another life, or silent for too long--> down
//
// Invariants: up and lost are told in turn; what is told with `up` was listed in the life that it is told of. A slow
// answer is no loss: a model server that creates a session may be busy for a while, and one that loads a model is given all
// the time that its load has. When requests get no answer it is doubted, loading or not, and a shorter silence will do.

import type { Clock } from "#platform/clock.ts";
import { sleep } from "#platform/clock.ts";
import type { DriverListener, Listed, Loss } from "./driver.ts";

export type Pulse =
  /** `life` is another one after each start of the model server. */
  | { readonly kind: "alive"; readonly life: string }
  /** Nobody listens there. */
  | { readonly kind: "dead"; readonly reason: string }
  /** No answer in time. `busy`: something that it was asked to do may be why, which has a deadline of its own. */
  | { readonly kind: "silent"; readonly reason: string; readonly busy?: boolean };

export interface WatchParts {
  readonly clock: Clock;
  readonly pulse: (signal: AbortSignal) => Promise<Pulse>;
  readonly list: (signal: AbortSignal) => Promise<Listed>;
  readonly pollMs: number;
  readonly silenceMs: number;
}

export interface Watch {
  run(listener: DriverListener, signal: AbortSignal): Promise<void>;
  /** Looks at once: a call has failed in a way that smells of death. */
  hurry(): void;
  /** It has answered something else. */
  heard(): void;
  /** Requests get no answer: for a while so long a silence counts as a loss. */
  doubt(silenceMs: number): void;
  readonly up: boolean;
}

const doubtLastsMs = 15_000;

export function createWatch(parts: WatchParts): Watch {
  const { clock, pulse, list, pollMs, silenceMs } = parts;
  let life: string | undefined;
  let hurry = new AbortController();
  let doubt = { silenceMs, untilMs: -Infinity };
  let heardMs = clock.monotonicMs();

  const limitMs = (busy: boolean, nowMs: number): number => {
    if (nowMs < doubt.untilMs) return Math.min(silenceMs, doubt.silenceMs);
    return busy ? Number.POSITIVE_INFINITY : silenceMs;
  };

  const check = async (listener: DriverListener, signal: AbortSignal): Promise<void> => {
    const seen = await pulse(signal);
    signal.throwIfAborted();
    const nowMs = clock.monotonicMs();
    const lose = (reason: string, how: Loss): void => {
      life = undefined;
      listener.onLost(reason, how);
    };
    if (seen.kind === "silent") {
      if (life !== undefined && nowMs - heardMs > limitMs(seen.busy === true, nowMs)) lose(seen.reason, "silent");
      return;
    }
    if (seen.kind === "dead") {
      if (life !== undefined) lose(seen.reason, "died");
      return;
    }
    heardMs = nowMs;
    if (life !== undefined && life !== seen.life) lose("it was started anew", "died");
    if (life === undefined) {
      const listed = await list(signal);
      signal.throwIfAborted();
      if (listed.kind === "failed") return;
      life = seen.life;
      listener.onUp(listed.held);
    }
  };

  return {
    get up(): boolean {
      return life !== undefined;
    },
    hurry: () => hurry.abort(),
    heard(): void {
      heardMs = clock.monotonicMs();
    },
    doubt(doubtedSilenceMs): void {
      doubt = { silenceMs: doubtedSilenceMs, untilMs: clock.monotonicMs() + doubtLastsMs };
    },
    async run(listener, signal): Promise<void> {
      heardMs = clock.monotonicMs();
      while (!signal.aborted) {
        hurry = new AbortController();
        try {
          await check(listener, signal);
          // While it is down, its start is waited for more eagerly.
          await sleep(life === undefined ? Math.min(pollMs, 50) : pollMs, AbortSignal.any([signal, hurry.signal]));
        } catch (error) {
          if (!signal.aborted && !hurry.signal.aborted) throw error;
          // A call that fails again and again must not make a busy loop.
          if (!signal.aborted) await sleep(5, signal).catch(() => undefined);
        }
      }
    },
  };
}
