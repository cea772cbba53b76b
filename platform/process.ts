// Owns child processes: start, readiness, restart with bounded back-off, stop.
//
//   starting --ready--> ready --exit--> waiting --back-off over--> starting
//      |                  |                |
//      +------ stop ------+----------------+--> stopping --> stopped        (no restart left: failed)
//
// Invariants: a child leads a process group of its own, so Ctrl-C in a terminal reaches only the supervisor, which stops
// its children in order. A killed supervisor leaves none: a child's standard input is a pipe that it holds, and children
// exit when it closes. What a child prints is read always (a full pipe would stop it) and cut into bounded lines.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { orAborted, sleep } from "./clock.ts";
import { createLineCutter } from "./lines.ts";

export interface ProcessExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it could not be started at all, or why it was killed before it was ready. */
  readonly error?: Error;
}

export type ProcessState =
  | { readonly kind: "starting"; readonly pid: number | undefined }
  | { readonly kind: "ready"; readonly pid: number }
  | { readonly kind: "waiting"; readonly forMs: number; readonly exit: ProcessExit }
  | { readonly kind: "stopping"; readonly pid: number | undefined }
  | { readonly kind: "stopped" }
  | { readonly kind: "failed"; readonly exit: ProcessExit };

export type RestartPolicy =
  | { readonly kind: "never" }
  | {
      readonly kind: "always";
      /** First pause, doubled at each exit; 100 ms when absent. */
      readonly firstMs?: number;
      /** Longest pause; 10 s when absent. */
      readonly longestMs?: number;
      /** A child up for so long starts again with the first pause; 10 s when absent. */
      readonly resetAfterMs?: number;
    };

export interface ProcessOptions {
  readonly name: string;
  readonly command: string;
  readonly args?: readonly string[];
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Ready once it prints a line that matches. Without line and probe it is ready once it is started. */
  readonly readyLine?: RegExp;
  /** Ready once this is true; asked every 20 ms. */
  readonly readyProbe?: (signal: AbortSignal) => Promise<boolean>;
  /** A child that is not ready in this time is killed, which counts as an exit; 30 s when absent. */
  readonly readyTimeoutMs?: number;
  /** Always when absent. */
  readonly restart?: RestartPolicy;
  readonly onOutput?: (line: string, stream: "stdout" | "stderr") => void;
  readonly onExit?: (exit: ProcessExit) => void;
  readonly onState?: (state: ProcessState) => void;
  /** Time between SIGTERM and SIGKILL when the signal or disposal stops it; 5 s when absent. */
  readonly graceMs?: number;
  readonly signal?: AbortSignal;
}

export interface SupervisedProcess extends AsyncDisposable {
  readonly state: ProcessState;
  readonly pid: number | undefined;
  /** How often it was started again. */
  readonly restarts: number;
  /** Its first readiness; rejects when it is stopped or has failed before. */
  readonly ready: Promise<void>;
  /** SIGTERM, then SIGKILL to its group; resolves when it is gone. Further calls join the first. */
  stop(graceMs?: number): Promise<void>;
}

export function superviseProcess(options: ProcessOptions): SupervisedProcess {
  const supervisor = new Supervisor(options);
  supervisor.start();
  return supervisor;
}

class Supervisor implements SupervisedProcess {
  readonly ready: Promise<void>;
  readonly #options: ProcessOptions;
  readonly #firstReady = Promise.withResolvers<void>();
  readonly #stop = new AbortController();
  #run: Promise<void> = Promise.resolve();
  #state: ProcessState = { kind: "starting", pid: undefined };
  #child: ChildProcess | undefined;
  #restarts = 0;
  #graceMs: number;

  constructor(options: ProcessOptions) {
    this.#options = options;
    this.#graceMs = options.graceMs ?? 5_000;
    this.ready = this.#firstReady.promise;
    this.ready.catch(() => undefined);
  }

  start(): void {
    const { signal } = this.#options;
    const onAbort = (): void => this.#stop.abort();
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#run = this.#supervise().finally(() => signal?.removeEventListener("abort", onAbort));
  }

  get state(): ProcessState {
    return this.#state;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get restarts(): number {
    return this.#restarts;
  }

  async stop(graceMs?: number): Promise<void> {
    if (graceMs !== undefined && !this.#stop.signal.aborted) this.#graceMs = graceMs;
    this.#stop.abort();
    await this.#run;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #supervise(): Promise<void> {
    const { name, restart = { kind: "always" } } = this.#options;
    const stop = this.#stop.signal;
    let pauses = 0;
    while (!stop.aborted) {
      const startedMs = performance.now();
      const exit = await this.#runOnce();
      this.#options.onExit?.(exit);
      if (stop.aborted) break;
      if (restart.kind === "never") {
        this.#enter({ kind: "failed", exit });
        this.#firstReady.reject(new Error(`${name} ended before it was ready: ${describeExit(exit)}`));
        return;
      }
      if (performance.now() - startedMs >= (restart.resetAfterMs ?? 10_000)) pauses = 0;
      const forMs = Math.min((restart.firstMs ?? 100) * 2 ** Math.min(pauses, 20), restart.longestMs ?? 10_000);
      pauses += 1;
      this.#enter({ kind: "waiting", forMs, exit });
      await sleep(forMs, stop).catch(() => undefined);
      if (!stop.aborted) this.#restarts += 1;
    }
    this.#enter({ kind: "stopped" });
    this.#firstReady.reject(new Error(`${name} was stopped before it was ready`));
  }

  /** From start to exit of one child. */
  async #runOnce(): Promise<ProcessExit> {
    const { command, args = [], env = {}, cwd, name } = this.#options;
    const child = spawn(command, [...args], {
      env: { ...process.env, ...env },
      cwd,
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child = child;
    this.#enter({ kind: "starting", pid: child.pid });
    // Writing to it is nobody's business; its end is only held open.
    child.stdin.on("error", () => undefined);
    const gone = new AbortController();
    const exited = exitOf(child, name);
    const readiness = this.#awaitReady(child, gone.signal);
    const stopping = this.#killWhenStopped(child, gone.signal);
    const exit = await exited;
    gone.abort();
    this.#child = undefined;
    const notReady = await readiness;
    await stopping;
    return notReady === undefined ? exit : { ...exit, error: notReady };
  }

  /** Enters `ready` when the child is; kills a child that is not in time and returns that as the error. */
  async #awaitReady(child: ChildProcess, gone: AbortSignal): Promise<Error | undefined> {
    const { name, readyTimeoutMs = 30_000 } = this.#options;
    const seen = this.#readOutput(child);
    const timeout = AbortSignal.timeout(readyTimeoutMs);
    const ended = AbortSignal.any([gone, this.#stop.signal, timeout]);
    try {
      await this.#probe(seen, ended);
    } catch (error) {
      if (!timeout.aborted || gone.aborted || this.#stop.signal.aborted) return ended.aborted ? undefined : toError(error);
      kill(child, "SIGKILL");
      return new Error(`${name} was not ready within ${readyTimeoutMs} ms`, { cause: error });
    }
    if (ended.aborted || child.pid === undefined) return undefined;
    this.#enter({ kind: "ready", pid: child.pid });
    this.#firstReady.resolve();
    return undefined;
  }

  async #probe(seen: Promise<void>, ended: AbortSignal): Promise<void> {
    const { readyProbe, readyLine } = this.#options;
    if (readyLine !== undefined) await orAborted(seen, ended);
    if (readyProbe === undefined) return;
    for (;;) {
      // A probe that throws says "not yet": what it asks may not listen so far.
      if (await orAborted(readyProbe(ended), ended).catch(() => false)) return;
      await sleep(20, ended);
    }
  }

  /** Resolves at the ready line. */
  #readOutput(child: ChildProcess): Promise<void> {
    const { onOutput, readyLine } = this.#options;
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const stream of ["stdout", "stderr"] as const) {
      const cutter = createLineCutter((line) => {
        if (readyLine?.test(line) === true) resolve();
        onOutput?.(line, stream);
      });
      child[stream]?.on("data", (chunk: Buffer) => cutter.push(chunk));
      child[stream]?.once("close", () => cutter.end());
    }
    return promise;
  }

  async #killWhenStopped(child: ChildProcess, gone: AbortSignal): Promise<void> {
    const stop = this.#stop.signal;
    await aborted(AbortSignal.any([stop, gone]));
    if (gone.aborted) return;
    this.#enter({ kind: "stopping", pid: child.pid });
    kill(child, "SIGTERM");
    await delay(this.#graceMs, undefined, { signal: gone }).catch(() => undefined);
    if (!gone.aborted) kill(child, "SIGKILL");
  }

  #enter(state: ProcessState): void {
    this.#state = Object.freeze(state);
    this.#options.onState?.(state);
  }
}

export function describeExit(exit: ProcessExit): string {
  if (exit.error !== undefined) return exit.error.message;
  return exit.signal === null ? `exit code ${exit.code ?? "unknown"}` : `killed by ${exit.signal}`;
}

/** The exit, told once the child's output is read, or shortly after: a grandchild may hold the pipes open. */
async function exitOf(child: ChildProcess, name: string): Promise<ProcessExit> {
  const { promise, resolve } = Promise.withResolvers<ProcessExit>();
  const closed = Promise.withResolvers<void>();
  child.once("error", (error) => {
    if (child.pid === undefined)
      resolve({ code: null, signal: null, error: new Error(`${name} could not be started: ${error.message}`, { cause: error }) });
  });
  child.once("exit", (code, signal) => resolve({ code, signal }));
  child.once("close", () => closed.resolve());
  const exit = await promise;
  const enough = new AbortController();
  await Promise.race([closed.promise, delay(500, undefined, { signal: enough.signal }).catch(() => undefined)]);
  enough.abort();
  for (const stream of child.stdio) stream?.destroy();
  return exit;
}

/** SIGTERM goes to the child, SIGKILL to its whole group. Only for a child whose exit was not seen yet. */
function kill(child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  if (signal === "SIGTERM") {
    child.kill(signal);
    return;
  }
  try {
    process.kill(-child.pid, signal);
  } catch {
    child.kill(signal);
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}

function toError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
