// Owns how much memory a model server's processes take, read from /proc where the adapter can see them: the process that
// listens at the server's address, and all below it. In a pod that wants `shareProcessNamespace: true`.
//
// Counted is what nobody else can be asked to give up: anonymous and shared memory, pages that a fork shares with its
// parent as often as they are mapped. Files that are only mapped are the page cache's.
import { readdir, readFile, readlink } from "node:fs/promises";

export interface MemoryMeter {
  /** Undefined: the processes cannot be seen. */
  read(signal: AbortSignal): Promise<number | undefined>;
}

export interface ProcessMeter extends MemoryMeter {
  /** Of this process, and all below it; undefined: it cannot be seen, or is none of the model server's. */
  readOne(pid: number, signal: AbortSignal): Promise<number | undefined>;
}

const maxProcesses = 4_096;
const listening = "0A";

/** The processes that listen there; empty: they cannot be seen. `address`: `host:port` or `unix:/path`, on this machine. */
export function createProcessFinder(address: string, proc: string): () => Promise<readonly number[]> {
  let roots: readonly number[] = [];
  return async () => {
    let sockets = await listeningSockets(proc, address);
    if (sockets.size === 0) return [];
    const still = await Promise.all(roots.map((pid) => holdsOneOf(proc, pid, sockets)));
    if (roots.length === 0 || still.includes(false)) {
      sockets = await listeningSockets(proc, address);
      roots = await findHolders(proc, sockets);
    }
    return roots;
  };
}

export function createProcessMeter(address: string, proc = "/proc"): ProcessMeter {
  const find = createProcessFinder(address, proc);
  const sumOf = async (pids: readonly number[]): Promise<number> => {
    const sizes = await Promise.all(pids.map((pid) => residentBytes(proc, pid)));
    return sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
  };
  const read = async (pids: readonly number[]): Promise<number | undefined> => {
    const bytes = await sumOf(await withDescendants(proc, pids));
    return bytes > 0 ? bytes : undefined;
  };
  return {
    async read(signal): Promise<number | undefined> {
      signal.throwIfAborted();
      return await read(await find());
    },
    async readOne(pid, signal): Promise<number | undefined> {
      signal.throwIfAborted();
      // A container beside this one counts its processes anew: its number may be another's here.
      const below = await withDescendants(proc, await find());
      return below.includes(pid) ? await read([pid]) : undefined;
    },
  };
}

async function listeningSockets(proc: string, address: string): Promise<ReadonlySet<string>> {
  const inodes = new Set<string>();
  if (address.startsWith("unix:")) {
    const path = address.slice("unix:".length);
    for (const line of await linesOf(`${proc}/net/unix`)) {
      const [, , , , , , inode = "", at] = line.trim().split(/\s+/);
      if (at === path) inodes.add(inode);
    }
    return inodes;
  }
  const port = Number(/:(\d+)$/.exec(address)?.[1] ?? 0)
    .toString(16)
    .toUpperCase()
    .padStart(4, "0");
  for (const file of ["tcp", "tcp6"]) {
    for (const line of await linesOf(`${proc}/net/${file}`)) {
      const [, local = "", , state, , , , , , inode = ""] = line.trim().split(/\s+/);
      if (state === listening && local.endsWith(`:${port}`)) inodes.add(inode);
    }
  }
  return inodes;
}

async function findHolders(proc: string, sockets: ReadonlySet<string>): Promise<readonly number[]> {
  const found: number[] = [];
  for (const name of (await readdir(proc).catch(() => [])).filter((each) => /^\d+$/.test(each)).slice(0, maxProcesses)) {
    if (await holdsOneOf(proc, Number(name), sockets)) found.push(Number(name));
  }
  return found;
}

/** False also of a process that may not be looked into, or has ended. */
async function holdsOneOf(proc: string, pid: number, sockets: ReadonlySet<string>): Promise<boolean> {
  const names = await readdir(`${proc}/${pid}/fd`).catch(() => []);
  const targets = await Promise.all(names.map((name) => readlink(`${proc}/${pid}/fd/${name}`).catch(() => "")));
  return targets.some((target) => sockets.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? ""));
}

async function withDescendants(proc: string, roots: readonly number[]): Promise<readonly number[]> {
  const all = new Set(roots);
  for (const pid of all) {
    if (all.size > maxProcesses) break;
    for (const thread of await readdir(`${proc}/${pid}/task`).catch(() => [])) {
      const children = await readFile(`${proc}/${pid}/task/${thread}/children`, "utf8").catch(() => "");
      for (const child of children.split(" ")) if (child.trim() !== "") all.add(Number(child));
    }
  }
  return [...all];
}

async function residentBytes(proc: string, pid: number): Promise<number | undefined> {
  const status = await readFile(`${proc}/${pid}/status`, "utf8").catch(() => "");
  const kilobytes = ["RssAnon", "RssShmem"].map((field) => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]));
  const sum = kilobytes.reduce((total, each) => total + (Number.isFinite(each) ? each : 0), 0);
  return status === "" ? undefined : sum * 1_024;
}

async function linesOf(file: string): Promise<readonly string[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text.split("\n").slice(1);
}
