// Owns one model thread as the main thread sees it: what waits for it, what it does now, how busy it was.
//
//   ask:   waiting --(its turn)--> under way --> answered        (what waits may be given up, what is under way may not)
//   close: nothing new is taken; the thread ends with what is under way
//
// Invariant: the thread has at most one order at a time. So what waits is on this side, where it can be given up, and where
// the models of a thread take turns.
// A thread is never ended during a run: ONNX Runtime's binding then throws where nobody can catch, which aborts the process.
import { Worker } from "node:worker_threads";
import { errorMessage } from "#core/errors.ts";
import type { Answer, Order } from "./messages.ts";
import { TurnQueue } from "./queue.ts";

interface Job {
  readonly order: Order;
  readonly memory: readonly ArrayBuffer[];
  readonly settle: (answer: Answer | undefined) => void;
}

/** Something that was asked of the thread. */
export interface Asked {
  /** Undefined when it was given up. */
  readonly answer: Promise<Answer | undefined>;
  /** Takes it back if the thread has not begun. */
  readonly giveUp: () => void;
}

/** After so long, time spent counts for a third. */
const forgetMs = 10_000;

export class ModelThread {
  readonly #worker: Worker;
  readonly #waiting = new TurnQueue<Job>();
  readonly #ended = Promise.withResolvers<void>();
  #current: Job | undefined;
  #closing = false;
  #startMs = 0;
  /** Processor time of runs, as it was at that time; loads are over when they are over. */
  #ranMs = 0;
  #ranAtMs = 0;
  /** Models that live here or are being loaded here. */
  models = 0;

  constructor() {
    this.#worker = new Worker(new URL("main.ts", import.meta.url));
    this.#worker.on("message", (answer: Answer) => this.#answered(answer));
    // A thread that fails without being asked takes the process with it, as all failures of native code do: whoever supervises
    // it starts it anew. "error" has no listener for the same reason.
    this.#worker.once("exit", (code) => {
      this.#ended.resolve();
      if (!this.#closing) throw new Error(`a model thread ended with ${code}`);
    });
  }

  get isComputing(): boolean {
    return this.#current !== undefined;
  }

  /** How much it ran lately, in milliseconds of some 10 s, and for how long it has had what it does now. */
  get busyMs(): number {
    return this.#recentMs(performance.now()) + (this.#current === undefined ? 0 : performance.now() - this.#startMs);
  }

  waitingOf(session: number): number {
    return this.#waiting.countOf(session);
  }

  ask(order: Order, memory: readonly ArrayBuffer[] = []): Asked {
    const { promise, resolve } = Promise.withResolvers<Answer | undefined>();
    const job: Job = { order, memory, settle: resolve };
    if (this.#closing) return { answer: Promise.resolve(undefined), giveUp: () => undefined };
    this.#waiting.push(order.session, job);
    this.#next();
    return {
      answer: promise,
      giveUp: () => {
        if (this.#waiting.remove(order.session, job)) resolve(undefined);
      },
    };
  }

  /** Resolves once the thread has ended: at once, or with what is under way. What waits, or comes later, is given up. */
  async close(): Promise<void> {
    this.#closing = true;
    for (let job = this.#waiting.take(); job !== undefined; job = this.#waiting.take()) job.settle(undefined);
    if (this.#current === undefined) void this.#worker.terminate();
    await this.#ended.promise;
  }

  #next(): void {
    if (this.#current !== undefined || this.#closing) return;
    const job = this.#waiting.take();
    if (job === undefined) return;
    this.#current = job;
    this.#startMs = performance.now();
    try {
      this.#worker.postMessage(job.order, job.memory);
    } catch (error) {
      this.#answered({ kind: "fault", message: `the order cannot be sent: ${errorMessage(error)}` });
    }
  }

  #recentMs(nowMs: number): number {
    return this.#ranMs * Math.exp((this.#ranAtMs - nowMs) / forgetMs);
  }

  #answered(answer: Answer): void {
    const job = this.#current;
    this.#current = undefined;
    if ("cpuMs" in answer) {
      const nowMs = performance.now();
      [this.#ranMs, this.#ranAtMs] = [this.#recentMs(nowMs) + answer.cpuMs, nowMs];
    }
    if (this.#closing) void this.#worker.terminate();
    this.#next();
    job?.settle(answer);
  }
}
