// Owns finding the way into an artefact's folder: wrappers that hold nothing but one folder, and folders of versions.
// Pure.
import type { Artefact } from "./plan.ts";

export interface Inside {
  /** Where the model's own files begin: empty, or a path that ends with a slash. */
  readonly base: string;
  /** The files there, relative to the base. */
  readonly files: readonly string[];
  /** Of the folder of versions that was entered. */
  readonly version: number | undefined;
}

/** Goes through wrappers until `isThere` says that this is it, or nothing is left to go through. The newest version counts. */
export function enter(artefact: Artefact, skip: ReadonlySet<string>, isThere: (names: ReadonlySet<string>) => boolean): Inside {
  let base = "";
  let version: number | undefined;
  for (;;) {
    const files = filesBelow(artefact, base).filter((file) => !skip.has(base + file));
    const names = new Set(files.map(firstName));
    if (isThere(names)) return { base, files, version };
    const folders = foldersOf(files);
    const newest = version === undefined ? newestVersion(folders) : undefined;
    const only = names.size === 1 && folders.length === 1 ? folders[0] : undefined;
    const next = newest?.name ?? only;
    if (next === undefined) return { base, files, version };
    version ??= newest?.version;
    base += `${next}/`;
  }
}

export function filesBelow({ files }: Artefact, base: string): readonly string[] {
  return files.filter((file) => file.startsWith(base)).map((file) => file.slice(base.length));
}

/** Versions are whole numbers from 1 up, without zeros in front. */
export function parseVersion(name: string): number | undefined {
  const version = /^[1-9]\d{0,14}$/.test(name) ? Number(name) : undefined;
  return version;
}

export function foldersOf(files: readonly string[]): readonly string[] {
  return [...new Set(files.filter((file) => file.includes("/")).map(firstName))];
}

function newestVersion(folders: readonly string[]): { readonly name: string; readonly version: number } | undefined {
  return folders
    .flatMap((name) => {
      const version = parseVersion(name);
      return version === undefined ? [] : [{ name, version }];
    })
    .toSorted((a, b) => b.version - a.version)[0];
}

function firstName(file: string): string {
  return file.split("/", 1)[0] ?? "";
}

/** `.onnx` of `a.onnx`, in small letters; empty when there is none. */
export function extensionOf(file: string): string {
  const name = file.slice(file.lastIndexOf("/") + 1);
  const dot = name.lastIndexOf(".");
  return dot <= 0 ? "" : name.slice(dot).toLowerCase();
}

/** The path without `.` parts, relative to the artefact; undefined when it leads out or is absolute. */
export function parseInnerPath(path: string): string | undefined {
  if (path.startsWith("/") || path.includes("\0") || path.includes("\\")) return undefined;
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  return parts.includes("..") ? undefined : parts.join("/");
}
