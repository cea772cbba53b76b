// Owns the folder of one run: private (0700), with a path short enough for Unix sockets (their limit is some 100 bytes),
// removed at close. What a killed run left behind is removed by the next one: the folder's name tells its process by
// pid namespace, pid and start time, so a reused pid is not mistaken for it.
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { lstat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface RunFolder extends AsyncDisposable {
  readonly path: string;
}

export interface RunFolderOptions {
  /** The folder to make it in: the system's temporary folder when absent. */
  readonly parent?: string;
}

const maxParentLength = 50;
let made = 0;

export async function openRunFolder(options: RunFolderOptions = {}): Promise<RunFolder> {
  const wanted = options.parent ?? tmpdir();
  const parent = wanted.length > maxParentLength ? "/tmp" : wanted;
  await removeDeadFolders(parent);
  made += 1;
  const path = join(parent, `${prefix()}${process.pid}-${startTime(process.pid) ?? "0"}-${made}`);
  mkdirSync(path, { mode: 0o700 });
  return {
    path,
    async [Symbol.asyncDispose](): Promise<void> {
      rmSync(path, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

async function removeDeadFolders(parent: string): Promise<void> {
  const own = prefix();
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(own)) continue;
    const [pid, start] = name.slice(own.length).split("-");
    if (pid === undefined || !/^\d+$/.test(pid) || startTime(Number(pid)) === start) continue;
    const path = join(parent, name);
    const found = await lstat(path).catch(() => undefined);
    if (found?.isDirectory() === true && found.uid === process.getuid?.()) rmSync(path, { recursive: true, force: true });
  }
}

/** Another container may share the temporary folder: its pids mean nothing here. */
function prefix(): string {
  const namespace = /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";
  return `warmpath-${Number(namespace).toString(36)}-`;
}

/** The start of a living process in clock ticks since boot, in base 36; undefined when there is none. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses may hold spaces; the start time is the 20th field after it.
    const ticks = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    return ticks === undefined ? undefined : Number(ticks).toString(36);
  } catch {
    return undefined;
  }
}
