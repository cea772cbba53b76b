// Owns which processes run before all others: what a hit passes, in Linux's real-time class (SCHED_RR of sched(7)). What is in it
// runs as soon as it wakes, whoever runs then; all else shares what is left.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { StartupError } from "#platform/lifecycle.ts";
import { type Launcher, launchedBy, type Program } from "./launchers.ts";
import { listThreads, workerThreads } from "./threads.ts";

/** The higher one goes first: to pass requests on takes microseconds, to compute what a model answers may take seconds. */
export const realTimePriorities = Object.freeze({ servers: 1, envoyWorkers: 2 });

const highest = Math.max(...Object.values(realTimePriorities));
const execute = promisify(execFile);
const toolMs = 5_000;

/** The same program, before all that is not in that class, with the same pid; undefined where this may not be set. */
export async function inRealTime(program: Program, priority: number): Promise<Program | undefined> {
  return await launchedBy(launchersAt(priority), program);
}

/** Throws StartupError where one of these priorities may not be set. */
export async function requireRealTime(): Promise<void> {
  if ((await inRealTime({ command: "true", args: [] }, highest)) === undefined) throw notAllowed();
}

/** The same program as one of the model servers. Throws StartupError where that may not be set. */
export async function asServer(program: Program): Promise<Program> {
  const launched = await inRealTime(program, realTimePriorities.servers);
  if (launched === undefined) throw notAllowed();
  return launched;
}

function notAllowed(): StartupError {
  return new StartupError(
    `--hits-first needs chrt or python3, and the right to a real-time priority: root, CAP_SYS_NICE, or \`ulimit -r\` of ${highest}`,
  );
}

/**
 * Of an Envoy that runs, only the threads that serve requests: its other ones, such as that which tidies its memory, may keep a
 * processor for milliseconds. Rejects when it may not be set.
 */
export async function raiseWorkers(pid: number): Promise<void> {
  for (const { id, name } of await listThreads(pid)) if (name.startsWith(workerThreads)) await raise(id);
}

const raising = "import os, sys; os.sched_setscheduler(int(sys.argv[1]), os.SCHED_RR, os.sched_param(int(sys.argv[2])))";

async function raise(thread: number): Promise<void> {
  const priority = `${realTimePriorities.envoyWorkers}`;
  const chrt = execute("chrt", ["-r", "-p", priority, `${thread}`], { timeout: toolMs });
  await chrt.catch(() => execute("python3", ["-c", raising, `${thread}`, priority], { timeout: toolMs }));
}

/** util-linux and BusyBox have the one, set-up needs the other. */
function launchersAt(priority: number): readonly Launcher[] {
  const script = `import os, sys; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(${priority})); os.execvp(sys.argv[1], sys.argv[1:])`;
  return [
    ["chrt", "-r", `${priority}`],
    ["python3", "-c", script],
  ];
}
