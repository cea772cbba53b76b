// Owns the life of a process. Only a main.ts uses it: signals, the order of shutdown, the exit code.
// Invariants: the first SIGINT or SIGTERM aborts the signal; what is on the stack is disposed in reverse order within
// a deadline; a second signal exits at once; the process always exits, whatever handles are left.
// One Ctrl-C may arrive twice, from the terminal and passed on by a launcher: repeats within 300 ms count as one.
import { constants } from "node:os";

/** The process cannot start or go on; the message is one sentence that says what to do. Shown without a stack. */
export class StartupError extends Error {
  override readonly name: string = "StartupError";
  /** Of the process that ends with it. */
  readonly exitCode: number = 1;
}

/** What stands on the command line cannot be. */
export class UsageError extends StartupError {
  override readonly name = "UsageError";
  override readonly exitCode = 2;
}

export interface MainOptions {
  /** Time for the disposal of everything on the stack; 10 s when absent. */
  readonly stopDeadlineMs?: number;
  /** Stop as on SIGTERM when standard input closes: a supervised child does not outlive its supervisor. */
  readonly exitWithParent?: boolean;
}

const sameSignalMs = 300;

/** What runs until the signal is aborted or its own work is done; a number is the exit code, otherwise 0. */
export type Main = (signal: AbortSignal, stack: AsyncDisposableStack) => Promise<number | void>;

/** Runs a process from start to exit. It does not return. */
export async function runMain(name: string, main: Main, options: MainOptions = {}): Promise<never> {
  const stopDeadlineMs = options.stopDeadlineMs ?? 10_000;
  const stop = new AbortController();
  const stack = new AsyncDisposableStack();
  let askedAtMs: number | undefined;
  const onSignal = (signal: "SIGINT" | "SIGTERM"): void => {
    const nowMs = performance.now();
    if (askedAtMs !== undefined && nowMs - askedAtMs > sameSignalMs) process.exit(128 + constants.signals[signal]);
    askedAtMs ??= nowMs;
    stop.abort(new Error(`${name} was stopped by ${signal}`));
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  // A fault that nobody awaited still ends in order: children and files are put away.
  const fault = Promise.withResolvers<never>();
  const onFault = (error: unknown): void => fault.reject(error);
  process.on("uncaughtException", onFault);
  process.on("unhandledRejection", onFault);
  fault.promise.catch(() => undefined);
  const orphaned = (): void => stop.abort(new Error(`${name} lost its parent`));
  if (options.exitWithParent === true) exitWithParent(orphaned);
  // The launcher keeps a channel open for nothing but this: it closes however the launcher ends.
  if (process.connected) process.once("disconnect", orphaned);

  let exitCode = 0;
  try {
    exitCode = (await Promise.race([main(stop.signal, stack), fault.promise])) ?? 0;
  } catch (error) {
    exitCode = explain(name, error, stop.signal);
  }
  stop.abort(new Error(`${name} is done`));
  const late = setTimeout(() => {
    process.stderr.write(`${name}: stopping took more than ${stopDeadlineMs} ms; exiting without the rest.\n`);
    process.exit(exitCode || 1);
  }, stopDeadlineMs);
  try {
    await Promise.race([stack.disposeAsync(), fault.promise]);
  } catch (error) {
    exitCode ||= explain(name, error, undefined);
  }
  clearTimeout(late);
  process.exit(exitCode);
}

/** The flag by which a supervisor says that a child of ours shall end with it; elsewhere standard input may be closed. */
export function hasParentFlag(argv: readonly string[]): boolean {
  return argv.includes("--exit-with-parent");
}

/** Calls `stop` when standard input ends: the supervisor holds its other end, so it ends with the supervisor. */
export function exitWithParent(stop: () => void): void {
  process.stdin.once("end", stop);
  process.stdin.once("close", stop);
  process.stdin.once("error", stop);
  process.stdin.resume();
}

/** The exit code of a failure, which is told on standard error unless it is only the answer to being stopped. */
function explain(name: string, error: unknown, signal: AbortSignal | undefined): number {
  if (signal?.aborted === true && (error === signal.reason || isAbort(error))) return 0;
  const text =
    error instanceof StartupError ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`${name}: ${text}\n`);
  return error instanceof StartupError ? error.exitCode : 1;
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}
