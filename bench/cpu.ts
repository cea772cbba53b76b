// Owns the reading of a process's processor time: all its threads, user and kernel, to the nanosecond where the kernel
// keeps it (schedstat), otherwise in clock ticks of 10 ms.
import { readdirSync, readFileSync } from "node:fs";

const tickNs = 10_000_000;

/** Nanoseconds of processor time that the living threads of a process have used. */
export function readCpuNs(pid: number): number {
  const folder = `/proc/${pid}/task`;
  try {
    let sum = 0;
    for (const thread of readdirSync(folder)) sum += parseSchedstat(readFileSync(`${folder}/${thread}/schedstat`, "utf8"));
    return sum;
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"));
  }
}

/** `running waiting slices`: https://docs.kernel.org/scheduler/sched-stats.html */
export function parseSchedstat(text: string): number {
  const running = /^\d+/.exec(text)?.[0];
  if (running === undefined) throw new Error(`not a schedstat line: ${text.slice(0, 100)}`);
  return Number(running);
}

/** utime + stime of proc_pid_stat(5); the name in parentheses may hold anything. */
export function parseStat(text: string): number {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  if (!Number.isFinite(ticks)) throw new Error(`not a stat line: ${text.slice(0, 100)}`);
  return ticks * tickNs;
}
