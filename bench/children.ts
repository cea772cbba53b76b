// Owns how processes of a benchmark are forked: each in a session of its own, since Linux shares processor time between
// sessions first, as it does between containers; on which processors, and whether before all else.
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { allowedProcessors, type Division, moveThreads, onProcessors, type Processors } from "#cli/up/processors.ts";
import { inRealTime, realTimePriorities } from "#cli/up/realtime.ts";

/** The Node that such a process runs on. */
export interface NodeOn {
  readonly execPath: string;
  readonly execArgv: readonly string[];
}

/** On all processors. */
export const nodeAnywhere: NodeOn = { execPath: process.execPath, execArgv: [] };

/** On all without a list. */
export async function nodeOn(processors: Processors | undefined): Promise<NodeOn> {
  const { command, args } = await onProcessors({ command: process.execPath, args: [] }, processors);
  return { execPath: command, execArgv: args };
}

/** Before all else, what `up --hits-first` raises included, as if on a machine of its own; undefined where that may not be set. */
export async function nodeInRealTime(): Promise<NodeOn | undefined> {
  const launched = await inRealTime({ command: process.execPath, args: [] }, realTimePriorities.envoyWorkers + 1);
  return launched === undefined ? undefined : { execPath: launched.command, execArgv: launched.args };
}

/** `entry`: the URL of its module. It has a channel, and says nothing but errors. */
export function forkChild(entry: URL, args: readonly string[], { execPath, execArgv }: NodeOn): ChildProcess {
  return fork(fileURLToPath(entry), args, {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execPath,
    execArgv: [...execArgv],
    detached: true,
  });
}

/** This process, all its threads, on these processors alone; on those it had when disposed of. */
export async function moveSelf(processors: Processors): Promise<AsyncDisposable> {
  const before = await allowedProcessors();
  const move = (to: Processors): Promise<void> => moveThreads(process.pid, to);
  await move(processors);
  return { [Symbol.asyncDispose]: () => move(before) };
}

/** The first half for hits; undefined where there is but one. */
export async function halveProcessors(): Promise<Division | undefined> {
  const all = await allowedProcessors();
  const half = Math.floor(all.length / 2);
  return half === 0 ? undefined : { hits: all.slice(0, half), others: all.slice(half) };
}
