// Owns the disk's side of layouts: reads what an artefact consists of, and makes the tree that a plan describes.
// Invariants: a tree is made beside its place and moved there whole, so a model server never sees half of it; what was
// there before is gone. Files are hard links where the disk allows, so that a tree lives on whatever becomes of the
// artefact, and symbolic links elsewhere; nothing is copied. Symbolic links inside an artefact are not followed.
import { link, lstat, mkdir, opendir, readFile, realpath, rename, rm, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Artefact, Plan, Refused } from "./plan.ts";
import { refuse } from "./plan.ts";

const maxFiles = 10_000;
const maxTextBytes = 2 ** 20;

/** `isText` says which files the layout wants to read. */
export async function readArtefact(
  path: string,
  isText: (file: string) => boolean,
  signal: AbortSignal,
): Promise<{ readonly kind: "ok"; readonly artefact: Artefact } | Refused> {
  const root = await realpath(path);
  const found = await lstat(root);
  if (found.isFile()) {
    const name = basename(path);
    return { kind: "ok", artefact: { kind: "file", name, files: [name], texts: new Map() } };
  }
  const files: string[] = [];
  const texts = new Map<string, string>();
  const folders = [""];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const entry of await opendir(join(root, folder))) {
      signal.throwIfAborted();
      const file = folder + entry.name;
      if (entry.isDirectory()) folders.push(`${file}/`);
      else if (entry.isFile()) files.push(file);
      if (files.length + folders.length > maxFiles) return refuse(`the artefact has more than ${maxFiles} files`);
    }
  }
  for (const file of files.filter(isText)) {
    if ((await lstat(join(root, file))).size <= maxTextBytes) texts.set(file, await readFile(join(root, file), "utf8"));
  }
  return { kind: "ok", artefact: { kind: "folder", name: basename(path), files: files.sort(), texts } };
}

export async function makeTree(
  { entries }: Extract<Plan, { readonly kind: "ok" }>,
  artefactPath: string,
  folder: string,
  signal: AbortSignal,
): Promise<void> {
  const artefact = await realpath(artefactPath);
  const isFile = (await lstat(artefact)).isFile();
  // No model server takes a name that begins with a dot for a model.
  const made = join(dirname(folder), `.making-${basename(folder)}`);
  await rm(made, { recursive: true, force: true });
  try {
    await mkdir(made, { recursive: true });
    for (const folderOf of new Set(entries.map(({ to }) => dirname(to)))) await mkdir(join(made, folderOf), { recursive: true });
    for (const entry of entries) {
      signal.throwIfAborted();
      const to = join(made, entry.to);
      if (entry.kind === "text") await writeFile(to, entry.text);
      else await linkFile(isFile ? artefact : join(artefact, entry.from), to);
    }
    await rm(folder, { recursive: true, force: true });
    await rename(made, folder);
  } catch (error) {
    await rm(made, { recursive: true, force: true });
    throw error;
  }
}

const unlinkable: ReadonlySet<string> = new Set(["EXDEV", "EPERM", "EMLINK", "EACCES", "ENOTSUP", "EOPNOTSUPP"]);

/** In place of whatever is there. */
export async function linkFile(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!(error instanceof Error) || !("code" in error) || !unlinkable.has(String(error.code))) throw error;
    await symlink(from, to);
  }
}
