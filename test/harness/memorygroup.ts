// Owns a control group of the kernel's that bounds the memory of a process and all that it starts, as a container's limit does.
// https://docs.kernel.org/admin-guide/cgroup-v1/memory.html, https://docs.kernel.org/admin-guide/cgroup-v2.html
import { existsSync } from "node:fs";
import { mkdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitUntil } from "./wait.ts";

export interface MemoryGroup extends AsyncDisposable {
  /** Put before a command, it makes that command's process a member from its first page on. */
  readonly under: readonly [command: string, ...args: string[]];
  /** The kernel kills a member when they take more than `bytes` beside what they have now, files in memory but not mapped left out. */
  limit(bytes: number): Promise<void>;
  /** How many members the kernel has killed for it. */
  kills(): Promise<number>;
}

interface Layout {
  readonly parent: string;
  readonly limitFile: string;
  readonly killsFile: string;
  /** In memory.stat: what its members hold. */
  readonly held: readonly string[];
}

const mount = "/sys/fs/cgroup";
const first: Layout = {
  parent: join(mount, "memory"),
  limitFile: "memory.limit_in_bytes",
  killsFile: "memory.oom_control",
  held: ["rss", "mapped_file"],
};
const second: Layout = { parent: mount, limitFile: "memory.max", killsFile: "memory.events", held: ["anon", "file_mapped"] };

let made = 0;

/** Undefined where none can be made: that takes root, and a memory controller that is not the host's alone. */
export async function openMemoryGroup(): Promise<MemoryGroup | undefined> {
  const layout = existsSync(join(mount, "cgroup.controllers")) ? second : first;
  const folder = join(layout.parent, `warmpath-memory-${process.pid}-${made++}`);
  try {
    if (layout === second) await writeFile(join(mount, "cgroup.subtree_control"), "+memory");
    await mkdir(folder);
  } catch {
    return undefined;
  }
  const remove = async (): Promise<void> => {
    // Its members are being ended: a group with one cannot be removed.
    await waitUntil(
      "the memory group is empty",
      async () =>
        await rmdir(folder).then(
          () => true,
          () => false,
        ),
      (gone) => gone,
    );
  };
  if (!existsSync(join(folder, layout.limitFile))) {
    await remove();
    return undefined;
  }
  const numbers = async (file: string): Promise<ReadonlyMap<string, number>> => {
    const lines = (await readFile(join(folder, file), "utf8")).trim().split("\n");
    return new Map(lines.map((line) => line.split(" ")).map(([name = "", value = ""]) => [name, Number(value)]));
  };
  return {
    under: ["sh", "-c", `echo $$ > ${join(folder, "cgroup.procs")} && exec "$@"`, "sh"],
    async limit(bytes) {
      const stat = await numbers("memory.stat");
      const held = layout.held.reduce((sum, name) => sum + (stat.get(name) ?? 0), 0);
      await writeFile(join(folder, layout.limitFile), `${held + bytes}`);
    },
    kills: async () => (await numbers(layout.killsFile)).get("oom_kill") ?? 0,
    [Symbol.asyncDispose]: remove,
  };
}
