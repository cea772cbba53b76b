// Owns that one thing at a time happens under a name at a model server, whoever gives up.
//
//   asked --> its name is free --> under way --> over: the next may begin
//                                     \--caller gave up--> goes on --> over --> taken back --> the next may begin
//
// Invariants: a caller who gives up is let go at once, and the work goes on until it ends by itself; what it left behind is taken
// back before anything else happens under its name. All work ends by its deadline, and with the model server's life.
import { orAborted } from "#platform/clock.ts";
import { type Deadline, openDeadline } from "#platform/deadline.ts";
import type { Failure } from "./driver.ts";

export interface Turn<T> {
  /** Its signal is the work's own end, not its caller's. */
  readonly work: (ended: AbortSignal) => Promise<T | Failure>;
  readonly timeoutMs: number;
  /** Its caller does not wait any more; undefined: it was aborted, or threw. */
  readonly givenUp?: (result: T | Failure | undefined) => Promise<void>;
}

export interface Turns {
  take<T>(name: string, signal: AbortSignal, turn: Turn<T>): Promise<T | Failure>;
  isTaken(name: string): boolean;
  /** Aborted at the deadline, and when the model server is lost. */
  ends(timeoutMs: number): Deadline;
  /** The model server is lost: all that is under way fails for this reason. */
  lose(reason: Error): void;
  /** All that is under way is aborted at once; resolves when nothing is. */
  end(): Promise<void>;
  /** Aborted by `end`. */
  readonly ended: AbortSignal;
}

export function createTurns(): Turns {
  /** Resolves when the next may begin. */
  const taken = new Map<string, Promise<void>>();
  const end = new AbortController();
  let life = new AbortController();
  const ends = (timeoutMs: number): Deadline => openDeadline(timeoutMs, end.signal, life.signal);

  /** That the model server was lost or took too long is a failure of the pod; other things thrown are faults. */
  const run = async <T>({ work }: Turn<T>, ended: AbortSignal): Promise<T | Failure> => {
    try {
      return await work(ended);
    } catch (error) {
      if (!ended.aborted || end.signal.aborted) throw error;
      const reason = ended.reason instanceof Error ? ended.reason.message : "the model server was lost";
      return { kind: "failed", failure: "pod", reason };
    }
  };

  return {
    async take<T>(name: string, signal: AbortSignal, turn: Turn<T>): Promise<T | Failure> {
      for (let before = taken.get(name); before !== undefined; before = taken.get(name)) await orAborted(before, signal);
      let left = false;
      const deadline = ends(turn.timeoutMs);
      const result = run(turn, deadline.signal);
      const finish = async (): Promise<void> => {
        try {
          // Whoever waits for the result is told of what it throws.
          const done = await result.catch(() => undefined);
          // At the very moment of giving up, the work may have heard of it first.
          if (left || (done === undefined && signal.aborted)) await turn.givenUp?.(done).catch(() => undefined);
        } finally {
          deadline[Symbol.dispose]();
          taken.delete(name);
        }
      };
      taken.set(name, finish());
      try {
        return await orAborted(result, signal);
      } catch (error) {
        left = signal.aborted;
        throw error;
      }
    },
    isTaken: (name) => taken.has(name),
    ends,
    lose(reason): void {
      const lost = life;
      life = new AbortController();
      lost.abort(reason);
    },
    async end(): Promise<void> {
      end.abort(new Error("the driver was disposed"));
      while (taken.size > 0) await Promise.allSettled(taken.values());
    },
    ended: end.signal,
  };
}
