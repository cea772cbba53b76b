// Owns the control groups of clusters: they outlive the namespaces that they were made in.
import { existsSync, globSync, readdirSync, rmdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { waitUntil } from "#test/harness/wait.ts";

export function hierarchies(): readonly string[] {
  return globSync("/sys/fs/cgroup/*/cgroup.procs").map(dirname);
}

/** Innermost first, and only those of this cluster. */
export async function removeGroups(group: string): Promise<void> {
  const remove = (folder: string): void => {
    for (const child of readdirSync(folder, { withFileTypes: true })) if (child.isDirectory()) remove(join(folder, child.name));
    rmdirSync(folder);
  };
  const left = (): readonly string[] =>
    hierarchies()
      .map((hierarchy) => join(hierarchy, group))
      .filter(existsSync);
  await waitUntil(
    "the groups of the cluster are gone",
    () => {
      for (const folder of left()) {
        try {
          remove(folder);
        } catch {
          // Its last process is about to end.
        }
      }
      return left().length;
    },
    (count) => count === 0,
    10_000,
  ).catch(() => undefined);
}

/** Of clusters whose tests were killed. */
export async function removeDeadGroups(): Promise<void> {
  const names = new Set(
    hierarchies().flatMap((hierarchy) => readdirSync(hierarchy).filter((name) => name.startsWith("warmpath-"))),
  );
  for (const name of names) if (!existsSync(`/proc/${name.split("-")[1] ?? ""}`)) await removeGroups(`/${name}`);
}
