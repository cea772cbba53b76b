// Owns whether the kernel killed a process of the model server for want of memory, which a death alone does not tell.
// https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.events), https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
//
// The kernel counts such kills in the control group of the process. Of a container beside this one the group is seen through
// the process's own root, and goes with the container; what is left then is the count of the whole machine, which may be of
// another pod that was killed in the same moment.
import { closeSync, openSync, readSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createProcessFinder } from "./processes.ts";

const chunkBytes = 4_096;
const maxCounterBytes = 65_536;

export interface KillMeter {
  /** It can be found by now: what takes long about the first mark is done before it. */
  prepare(): void;
  /** From now on. */
  mark(): Promise<KillMark>;
  /** The model server is another process from now on, or none. */
  renew(): void;
}

export interface KillMark extends AsyncDisposable {
  /** Was there one since? False as well where nobody counts them. */
  killed(): Promise<boolean>;
}

export interface KillOptions {
  readonly proc?: string;
  readonly cgroups?: string;
}

/** Of an open file. These files are on no disk: whoever waited for a thread to read them would wait longer than they take. */
type Descriptor = number;

/** Opened once for each life of the model server: finding its process takes longer than a small load does. */
interface Counters {
  readonly opened: Promise<{ readonly group: Descriptor | undefined; readonly machine: Descriptor | undefined }>;
  marks: number;
  over: boolean;
}

export function createKillMeter(address: string, { proc = "/proc", cgroups = "/sys/fs/cgroup" }: KillOptions = {}): KillMeter {
  const find = createProcessFinder(address, proc);
  let current: Counters | undefined;
  const openCounters = async (): Promise<Awaited<Counters["opened"]>> => {
    const [pid] = await find();
    const group = pid === undefined ? undefined : await openGroup(proc, cgroups, pid);
    return { group, machine: openNow(join(proc, "vmstat")) };
  };
  const countersNow = (): Counters => (current ??= { opened: openCounters(), marks: 0, over: false });
  const closeUnused = async (counters: Counters): Promise<void> => {
    if (!counters.over || counters.marks > 0) return;
    const { group, machine } = await counters.opened;
    for (const file of [group, machine]) if (file !== undefined) closeSync(file);
  };
  const renew = (): void => {
    const last = current;
    current = undefined;
    if (last === undefined) return;
    last.over = true;
    void closeUnused(last);
  };
  const markOnce = async (): Promise<KillMark & { readonly groupIsGone: boolean }> => {
    const counters = countersNow();
    counters.marks += 1;
    const { group, machine } = await counters.opened;
    const before = { group: countIn(group), machine: countIn(machine) };
    return {
      groupIsGone: group !== undefined && before.group === undefined,
      async killed(): Promise<boolean> {
        const [from, to] = [before.group, countIn(group)];
        if (from !== undefined && to !== undefined) return to > from;
        const ofAll = countIn(machine);
        return before.machine !== undefined && ofAll !== undefined && ofAll > before.machine;
      },
      async [Symbol.asyncDispose](): Promise<void> {
        counters.marks -= 1;
        await closeUnused(counters);
      },
    };
  };
  return {
    prepare: () => void countersNow(),
    renew,
    async mark(): Promise<KillMark> {
      const mark = await markOnce();
      if (!mark.groupIsGone) return mark;
      // With its container, and nobody has said so yet.
      await mark[Symbol.asyncDispose]();
      renew();
      return await markOnce();
    },
  };
}

/** Opened, so that it can be read when the process is gone. */
async function openGroup(proc: string, cgroups: string, pid: number): Promise<Descriptor | undefined> {
  for (const path of await groupFiles(proc, cgroups, pid)) {
    const file = openNow(path);
    if (file === undefined) continue;
    if (countIn(file) !== undefined) return file;
    closeSync(file);
  }
  return undefined;
}

async function groupFiles(proc: string, cgroups: string, pid: number): Promise<readonly string[]> {
  const text = await readFile(join(proc, `${pid}`, "cgroup"), "utf8").catch(() => "");
  const root = join(proc, `${pid}`, "root/sys/fs/cgroup");
  return text.split("\n").flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) return [];
    const [folder, name] =
      controllers === ""
        ? ["", "memory.events"]
        : controllers.split(",").includes("memory")
          ? ["memory", "memory.oom_control"]
          : [];
    if (folder === undefined || name === undefined) return [];
    // What lies outside of this container's own group begins with `/..`.
    const own = path.split("/").includes("..") ? [] : [join(cgroups, folder, path, name)];
    return [...own, join(root, folder, name)];
  });
}

/** Undefined: nobody counts there, or not any more. */
function countIn(file: Descriptor | undefined): number | undefined {
  if (file === undefined) return undefined;
  const buffer = Buffer.allocUnsafe(chunkBytes);
  let text = "";
  // The kernel gives a page at a time.
  while (text.length < maxCounterBytes) {
    const bytesRead = readNow(file, buffer, text.length);
    if (bytesRead === 0) break;
    text += buffer.toString("latin1", 0, bytesRead);
    const found = /^oom_kill (\d+)\n/m.exec(text)?.[1];
    if (found !== undefined) return Number(found);
  }
  return undefined;
}

function openNow(path: string): Descriptor | undefined {
  try {
    return openSync(path, "r");
  } catch {
    return undefined;
  }
}

function readNow(file: Descriptor, buffer: Buffer, at: number): number {
  try {
    return readSync(file, buffer, 0, buffer.length, at);
  } catch {
    return 0;
  }
}
