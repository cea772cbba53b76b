// Owns what /proc tells of processes: who descends from whom, and whether the very same process still lives.
import { readdirSync, readFileSync } from "node:fs";
import { waitFor } from "#platform/testing.ts";

export interface ProcessMark {
  readonly pid: number;
  /** In clock ticks since boot: a pid that is used again is another process. */
  readonly startTime: string;
  readonly command: string;
}

interface Stat extends ProcessMark {
  readonly parent: number;
  readonly state: string;
}

/** All processes below this one, as they are now. */
export function descendantsOf(pid: number): readonly ProcessMark[] {
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readStat(Number(name)) ?? []);
  const found: ProcessMark[] = [];
  const ancestors = new Set([pid]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const { parent, state: _, ...mark } of all) {
      if (!ancestors.has(parent) || ancestors.has(mark.pid)) continue;
      ancestors.add(mark.pid);
      found.push(mark);
      grew = true;
    }
  }
  return found;
}

/** Those that still live; a zombie does not. */
export function livingOf(marks: readonly ProcessMark[]): readonly ProcessMark[] {
  return marks.filter(({ pid, startTime }) => {
    const now = readStat(pid);
    return now !== undefined && now.startTime === startTime && now.state !== "Z" && now.state !== "X";
  });
}

function readStat(pid: number): Stat | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim().slice(0, 120);
    return { pid, state: fields[0] ?? "", parent: Number(fields[1]), startTime: fields[19] ?? "", command };
  } catch {
    return undefined;
  }
}

/** Resolves when every thread of the process stands still: the signal alone says only that they are to. */
export async function freezeProcess(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  await waitFor(() => readdirSync(`/proc/${pid}/task`).every((thread) => isStill(readStat(Number(thread)))));
}

/** One that has ended is as well. */
function isStill(stat: Stat | undefined): boolean {
  return stat === undefined || /^[TtZX]/.test(stat.state);
}
