// Owns what an adapter remembers of its model server's copies: one small file for each, so that an adapter that was started
// anew knows what was loaded before, in which revision and of which size. Model servers keep only names.
// Invariants: a file is there before the model server is asked to load, and goes when the copy is known to be gone, so
// nothing that may be held is forgotten; files are replaced whole. Writing costs the same however many there are.

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { parseJson } from "#platform/json.ts";

export interface Remembered {
  readonly serverName: string;
  readonly revision: string;
  readonly sizeBytes: number;
  /** False: it was being loaded when this was written. */
  readonly loaded: boolean;
}

export interface CopyRecord {
  /** Those of before, at the first call. */
  open(): Promise<void>;
  get(serverName: string): Remembered | undefined;
  all(): readonly Remembered[];
  put(copy: Remembered): Promise<void>;
  delete(serverName: string): Promise<void>;
}

const schema = z.object({
  serverName: z.string().min(1),
  revision: z.string().min(1),
  sizeBytes: z.number().nonnegative(),
  loaded: z.boolean(),
});
const suffix = ".json";

export function createRecord(folder: string): CopyRecord {
  const copies = new Map<string, Remembered>();
  let opening: Promise<void> | undefined;
  const fileOf = (serverName: string): string => join(folder, `${fileName(serverName)}${suffix}`);

  const read = async (): Promise<void> => {
    await mkdir(folder, { recursive: true });
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const parsed = schema.safeParse(parseJson(await readFile(path, "utf8").catch(() => "")));
      // Half-written ones, and what is not ours at all.
      if (!name.endsWith(suffix) || !parsed.success) await rm(path, { force: true, recursive: true });
      else copies.set(parsed.data.serverName, parsed.data);
    }
  };

  return {
    open: async () => await (opening ??= read()),
    get: (serverName) => copies.get(serverName),
    all: () => [...copies.values()],
    async put(copy): Promise<void> {
      const part = `${fileOf(copy.serverName)}.part`;
      await writeFile(part, JSON.stringify(copy));
      await rename(part, fileOf(copy.serverName));
      copies.set(copy.serverName, copy);
    },
    async delete(serverName): Promise<void> {
      if (!copies.delete(serverName)) return;
      await rm(fileOf(serverName), { force: true });
    },
  };
}

/** A name as long as names may be is too long for a file with an ending. */
export function fileName(serverName: string): string {
  return serverName.length <= 200 ? serverName : createHash("sha256").update(serverName).digest("hex");
}
