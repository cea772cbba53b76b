// Owns which processors processes run on. By default all share all. Apart, hits have some that nothing else runs on, so that
// loads, however many there are, take no processor from them.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { StartupError, UsageError } from "#platform/lifecycle.ts";
import { type Launcher, launchedBy, type Program } from "./launchers.ts";
import { listThreads } from "./threads.ts";

/** Numbers of processors, ascending. */
export type Processors = readonly number[];

export interface Division {
  /** Of what a hit passes: threads of Envoys that serve requests, and model servers. */
  readonly hits: Processors;
  /** Of what loads and decides: gateways, adapters, and the other threads of Envoys, which take up what gateways tell them. */
  readonly others: Processors;
}

const execute = promisify(execFile);
const most = 4_096;
const toolMs = 5_000;

/** As Linux writes them: `0-2,5`. Undefined for what is no such list. */
export function parseProcessors(text: string): Processors | undefined {
  const found = new Set<number>();
  for (const part of text.split(",")) {
    const [, first, last = first] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? [];
    if (first === undefined || Number(first) > Number(last) || Number(last) >= most) return undefined;
    for (let at = Number(first); at <= Number(last); at++) found.add(at);
  }
  return Array.from(found).sort((a, b) => a - b);
}

/** Those that a thread may run on, by default this process's main one. */
export async function allowedProcessors(thread: number | "self" = "self"): Promise<Processors> {
  const [, list = ""] = /^Cpus_allowed_list:\s*(\S+)$/m.exec(await readFile(`/proc/${thread}/status`, "utf8")) ?? [];
  return parseProcessors(list) ?? [];
}

/** Throws UsageError for processors that are not there, and when none is left for the rest. */
export function divideProcessors(hits: Processors, all: Processors): Division {
  const missing = hits.filter((processor) => !all.includes(processor));
  if (missing.length > 0)
    throw new UsageError(`--hit-processors: there is no processor ${missing.join(", ")}; there are ${all.join(", ")}`);
  const others = all.filter((processor) => !hits.includes(processor));
  if (others.length === 0) throw new UsageError("--hit-processors must leave a processor to gateways and adapters");
  return { hits, others };
}

/** The same program on these processors alone, with the same pid; on all without a list. Throws StartupError where no tool is. */
export async function onProcessors(program: Program, processors: Processors | undefined): Promise<Program> {
  if (processors === undefined) return program;
  const launched = await launchedBy(launchersTo(processors), program);
  if (launched === undefined) throw new StartupError("to keep processors apart, taskset or python3 is needed");
  return launched;
}

const moving = "import os, sys; os.sched_setaffinity(int(sys.argv[1]), [int(each) for each in sys.argv[2].split(',')])";

/** A thread that runs, by its id: a process's main thread has that of the process. Rejects when it cannot be moved. */
async function moveThread(id: number, processors: Processors): Promise<void> {
  const list = processors.join(",");
  const taskset = execute("taskset", ["--cpu-list", "--pid", list, `${id}`], { timeout: toolMs });
  await taskset.catch(() => execute("python3", ["-c", moving, `${id}`, list], { timeout: toolMs }));
}

/** Of a process that runs, all threads that are there, or all whose names do not begin as `but`. Rejects when one cannot be moved. */
export async function moveThreads(pid: number, processors: Processors, but?: string): Promise<void> {
  for (const { id, name } of await listThreads(pid)) {
    if (but === undefined || !name.startsWith(but)) await moveThread(id, processors);
  }
}

/** util-linux has the one, set-up needs the other. */
function launchersTo(processors: Processors): readonly Launcher[] {
  const list = processors.join(",");
  const script = `import os, sys; os.sched_setaffinity(0, [${list}]); os.execvp(sys.argv[1], sys.argv[1:])`;
  return [
    ["taskset", "--cpu-list", list],
    ["python3", "-c", script],
  ];
}
