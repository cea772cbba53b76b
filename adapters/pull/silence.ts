// Owns that a store that says nothing holds nobody up for long: a question to it has a deadline of its own, after which what is
// on the disk may do; and one that stays silent is left alone for a while, so that what waits for it does not take the few
// places that loads have.
//
//   asked --an answer, or a refusal--> (nothing is remembered)
//     \--silent, `enough` times in a row--> resting --restMs--> one may try --silent--> resting
//
// Invariants: memory is bounded, the store that was heard of the longest ago is forgotten; an aborted question says nothing of its
// store.
import type { Clock } from "#platform/clock.ts";
import { openDeadline } from "#platform/deadline.ts";
import { PullError } from "./trouble.ts";

export interface Question {
  /** Which store, whoever asks. */
  readonly store: string;
  /** For people: what is asked about. */
  readonly what: string;
  readonly timeoutMs: number;
}

export interface Silences {
  /** Does `work`, or throws that the store is unreachable. */
  ask<T>(question: Question, signal: AbortSignal, work: (ended: AbortSignal) => Promise<T>): Promise<T>;
}

export interface SilencesOptions {
  readonly clock: Pick<Clock, "monotonicMs">;
  /** 3 when absent. */
  readonly enough?: number;
  /** 10 s when absent. */
  readonly restMs?: number;
  /** 1,000 when absent. */
  readonly maxStores?: number;
}

interface Silence {
  times: number;
  untilMs: number;
  trying: boolean;
}

export function createSilences({ clock, enough = 3, restMs = 10_000, maxStores = 1_000 }: SilencesOptions): Silences {
  const silent = new Map<string, Silence>();

  function note(store: string): void {
    const silence = silent.get(store) ?? { times: 0, untilMs: 0, trying: false };
    silence.times += 1;
    silence.untilMs = clock.monotonicMs() + restMs;
    silent.delete(store);
    silent.set(store, silence);
    const [oldest] = silent.keys();
    if (silent.size > maxStores && oldest !== undefined) silent.delete(oldest);
  }

  function rests({ times, untilMs, trying }: Silence): boolean {
    return times >= enough && (trying || clock.monotonicMs() < untilMs);
  }

  return {
    async ask({ store, what, timeoutMs }, signal, work) {
      const known = silent.get(store);
      if (known !== undefined && rests(known))
        throw new PullError("unreachable", `the store of ${what} has been silent, and is left alone for some seconds`);
      const tries = known !== undefined && known.times >= enough;
      if (tries) known.trying = true;
      using deadline = openDeadline(timeoutMs, signal);
      try {
        const answer = await work(deadline.signal);
        silent.delete(store);
        return answer;
      } catch (error) {
        if (signal.aborted) throw error;
        if (!deadline.signal.aborted) {
          silent.delete(store);
          throw error;
        }
        note(store);
        throw new PullError("unreachable", `the store is silent about ${what}`, { cause: error });
      } finally {
        if (tries) known.trying = false;
      }
    },
  };
}
