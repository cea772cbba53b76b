// Owns what the disk says about an artefact, and the check that it is still so.
// Invariant: the digest is of the names and contents alone, so that the same artefact from two places is one.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { parseRelativePath } from "../paths.ts";

const path = z.string().refine((text) => {
  const parsed = parseRelativePath(text);
  return parsed.kind === "ok" && parsed.path === text;
});

const schema = z.object({
  /** What is given to the model server, below files/. */
  name: path,
  schema: path.optional(),
  files: z
    .array(
      z.object({
        path,
        sizeBytes: z.int().nonnegative(),
        sha256: z.string().regex(/^[0-9a-f]{64}$/),
        /** Set when the manifest is written. */
        mtimeMs: z.number().default(0),
      }),
    )
    .min(1),
  /** What it was listed as, and where it came from. */
  keys: z.array(z.string().regex(/^[A-Za-z0-9_-]{1,64}$/)).max(256),
});

export type Manifest = z.output<typeof schema>;

/** Names, sizes and times; or the content too. */
export type Check = "facts" | "content";

export function digestOf({ name, schema, files }: Pick<Manifest, "name" | "schema" | "files">): string {
  const sorted = files.map((file) => [file.path, file.sizeBytes, file.sha256]).toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1));
  return createHash("sha256")
    .update(JSON.stringify([name, schema ?? null, sorted]))
    .digest("hex")
    .slice(0, 40);
}

export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  const files = await Promise.all(
    manifest.files.map(async (file) => ({ ...file, mtimeMs: (await lstat(join(folder, "files", file.path))).mtimeMs })),
  );
  await writeFile(join(folder, "manifest.json"), JSON.stringify({ ...manifest, files }));
}

export async function readManifest(folder: string): Promise<Manifest | undefined> {
  try {
    const json: unknown = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"));
    return schema.safeParse(json).data;
  } catch {
    return undefined;
  }
}

export async function checkFiles(folder: string, manifest: Manifest, check: Check, signal: AbortSignal): Promise<boolean> {
  for (const file of manifest.files) {
    signal.throwIfAborted();
    const at = join(folder, "files", file.path);
    const found = await lstat(at).catch(() => undefined);
    if (found?.isFile() !== true || found.size !== file.sizeBytes || found.mtimeMs !== file.mtimeMs) return false;
    if (check === "content" && (await hashFile(at, signal).catch(() => undefined)) !== file.sha256) {
      signal.throwIfAborted();
      return false;
    }
  }
  return true;
}

export async function hashFile(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 18, signal })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
