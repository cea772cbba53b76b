// Owns the threads for models that take long to create or to run, and the sessions in them. A session belongs to the thread
// that created it: ONNX Runtime's binding cannot hand one over.
// Threads are started when they are needed, and stay. A model goes where least was done lately, so one that computes all the
// time is left alone by those that come later, as long as there are other threads.
import { Refusal } from "../refusal.ts";
import type { LoadFailure, NamedTensor, Session } from "../session.ts";
import { type Answer, bytesOf, memoryOf, receivePorts, receiveTensors, send } from "./messages.ts";
import { ModelThread } from "./thread.ts";

export interface PoolOptions {
  readonly threads: number;
  /** Requests that may wait for each model. */
  readonly maxWaiting: number;
}

/** Tensors that may wait in all. Their requests hold as much again, or some times as much when they were JSON. */
const maxWaitingBytes = 128 * 2 ** 20;
/** Time spent lately that is no reason to prefer another thread. */
const littleMs = 100;
/** What a thread that does something counts for more: who comes to it has to wait, for how long nobody knows. */
const waitMs = 1_000;

export class ThreadPool implements AsyncDisposable {
  readonly #options: PoolOptions;
  readonly #threads: ModelThread[] = [];
  #sessions = 0;
  #waitingBytes = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** Whether a thread computes: then it cannot be ended, nor can the process end in order. */
  get isComputing(): boolean {
    return this.#threads.some((thread) => thread.isComputing);
  }

  /** Reads and prepares the model at `path` in a thread. `ran` hears the processor time of each run. */
  async open(path: string, ran?: (cpuMs: number) => void): Promise<Session | LoadFailure> {
    const thread = this.#pick();
    thread.models += 1;
    const session = ++this.#sessions;
    const answer = await thread.ask({ kind: "open", session, path }).answer;
    if (answer?.kind === "opened") return this.#createSession(thread, session, answer, ran);
    thread.models -= 1;
    return answer?.kind === "failed" ? answer.failure : { kind: "pod", message: `the model thread gave ${told(answer)}` };
  }

  /** Resolves once all threads have ended; one that computes ends when it is done. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }

  #pick(): ModelThread {
    const [best] = this.#threads.toSorted((a, b) => weigh(a) - weigh(b) || a.models - b.models);
    if (best !== undefined && ((best.models === 0 && !best.isComputing) || this.#threads.length >= this.#options.threads))
      return best;
    const thread = new ModelThread();
    this.#threads.push(thread);
    return thread;
  }

  #createSession(
    thread: ModelThread,
    session: number,
    { inputs, outputs }: Extract<Answer, { kind: "opened" }>,
    ran: ((cpuMs: number) => void) | undefined,
  ): Session {
    return {
      inputs: receivePorts(inputs),
      outputs: receivePorts(outputs),
      run: async (tensors, outputNames, whenGone): Promise<readonly NamedTensor[] | Refusal> => {
        const bytes = bytesOf(tensors);
        if (thread.waitingOf(session) >= this.#options.maxWaiting) return busy("requests of the model");
        if (thread.isComputing && this.#waitingBytes > 0 && this.#waitingBytes + bytes > maxWaitingBytes) return busy("bytes");
        this.#waitingBytes += bytes;
        const asked = thread.ask({ kind: "run", session, inputs: send(tensors), outputNames }, memoryOf(tensors));
        whenGone?.(asked.giveUp);
        const answer = await asked.answer;
        this.#waitingBytes -= bytes;
        if (answer === undefined) return new Refusal("gone", "the client has left, or the server ends");
        if (answer.kind !== "outputs" && answer.kind !== "refused")
          throw new Error(answer.kind === "fault" ? answer.message : `the model thread gave ${told(answer)}`);
        ran?.(answer.cpuMs);
        return answer.kind === "outputs" ? receiveTensors(answer.outputs) : new Refusal(answer.refusal, answer.message);
      },
      async release(): Promise<void> {
        await thread.ask({ kind: "release", session }).answer;
        thread.models -= 1;
      },
    };
  }
}

function weigh({ busyMs, isComputing }: ModelThread): number {
  return (busyMs < littleMs ? 0 : busyMs) + (isComputing ? waitMs : 0);
}

function busy(what: string): Refusal {
  return new Refusal("busy", `too many ${what} are waiting already for a model that computes`);
}

function told(answer: Answer | undefined): string {
  return answer === undefined ? "no answer" : answer.kind === "fault" ? answer.message : `an answer of kind ${answer.kind}`;
}
