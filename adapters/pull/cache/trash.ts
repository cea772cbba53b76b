// Owns what is needed no more on the cache's disk: out of sight at once, off the disk soon.
import { randomUUID } from "node:crypto";
import { renameSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "#platform/log.ts";

export interface Trash {
  /** What an earlier process did not get to. */
  empty(): Promise<void>;
  discard(path: string): void;
  /** Resolves when nothing is being removed. */
  settled(): Promise<void>;
}

export function createTrash(folder: string, log: Log): Trash {
  const removals = new Set<Promise<void>>();
  const complain = (error: unknown): void => log.warn("what is needed no more cannot be removed from the disk", { error });
  return {
    async empty(): Promise<void> {
      for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true, force: true });
    },
    discard(path): void {
      const away = join(folder, randomUUID());
      try {
        renameSync(path, away);
      } catch (error) {
        if (!isAbsent(error)) complain(error);
        return;
      }
      const removal = rm(away, { recursive: true, force: true })
        .catch(complain)
        .finally(() => removals.delete(removal));
      removals.add(removal);
    },
    async settled(): Promise<void> {
      await Promise.all(removals);
    },
  };
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
