// Owns the claim of one process on a cache folder: two adapters in one folder would remove each other's files.
import { readFileSync } from "node:fs";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { StartupError } from "#platform/lifecycle.ts";

export async function claimFolder(folder: string): Promise<void> {
  const file = join(folder, "owner");
  const [pid = "", start] = (await readFile(file, "utf8").catch(() => "")).split(" ");
  if (/^\d+$/.test(pid) && Number(pid) !== process.pid && start === startOf(Number(pid))) {
    throw new StartupError(`the cache folder ${folder} is in use by process ${pid}: give each adapter a folder of its own`);
  }
  await writeFile(`${file}.${process.pid}`, `${process.pid} ${startOf(process.pid)}`, { mode: 0o600 });
  await rename(`${file}.${process.pid}`, file);
}

/** The start of a living process in clock ticks since boot: a pid that is used again is another process. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses may hold spaces.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}
