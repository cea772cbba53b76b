// Owns how large an artefact is on the disk.
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

const maxFiles = 10_000;

/** Undefined when it is not there. */
export async function artefactBytes(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() !== true) return found?.size;
  let sizeBytes = 0;
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  for (const entry of entries.slice(0, maxFiles)) {
    if (entry.isFile()) sizeBytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return sizeBytes;
}
