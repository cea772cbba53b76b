// Owns artefacts on a disk that the model server sees too (file: and pvc: addresses): nothing is copied.
// Invariant: what is given out lies, with every symbolic link followed, inside its root: the storage root, or the claim.
import { opendir, realpath, stat } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import type { Artefact, Failure } from "../drivers/driver.ts";
import type { Pulled, Puller } from "./puller.ts";

const maxFiles = 10_000;

export interface FilePullerOptions {
  /** Absolute; nothing outside of it is given out. */
  readonly storageRoot: string;
}

export interface LocalPlace {
  /** Absolute; nothing outside of it is given out. */
  readonly root: string;
  /** What the root is called in reasons. */
  readonly rootName: string;
  /** The reason when the root is not there, where there is more to say. */
  readonly absent?: string;
  /** Absolute. */
  readonly path: string;
  /** Relative to the artefact's folder, or absolute. */
  readonly schemaPath?: string;
}

interface Found {
  readonly kind: "ok";
  readonly path: string;
  readonly schemaPath?: string;
  readonly sizeBytes: number;
}

/** Addresses are `file:///absolute/path`. */
export function createFilePuller({ storageRoot: root }: FilePullerOptions): Puller {
  const find = async ({ storageUri, schemaPath }: Artefact, signal: AbortSignal): Promise<Found | Failure> => {
    const path = parseFileUri(storageUri);
    if (path === undefined) return failed("model", "a file address must look like file:///absolute/path");
    const place = { root, rootName: "this pod's storage root", path };
    return await findLocal(schemaPath === undefined ? place : { ...place, schemaPath }, signal);
  };
  return {
    probe: find,
    async pull(artefact, signal): Promise<Pulled | Failure> {
      const found = await find(artefact, signal);
      return found.kind === "ok" ? { ...found, release: async () => undefined } : found;
    },
  };
}

export async function findLocal(place: LocalPlace, signal: AbortSignal): Promise<Found | Failure> {
  try {
    const root = await realpath(place.root).catch((cause: unknown) => {
      const absent = codeOf(cause) === " (ENOENT)" ? place.absent : undefined;
      throw new StorageRootError(absent ?? `${place.rootName} cannot be read${codeOf(cause)}`, { cause });
    });
    const inside = (path: string): boolean => path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
    const path = await realpath(place.path);
    if (!inside(path)) return failed("model", `the artefact lies outside of ${place.rootName}`);
    const found = await stat(path);
    signal.throwIfAborted();
    if (!found.isFile() && !found.isDirectory()) return failed("model", "the artefact is neither a file nor a directory");
    const sizeBytes = found.isFile() ? found.size : await directoryBytes(path, signal);
    if (place.schemaPath === undefined) return { kind: "ok", path, sizeBytes };
    const beside = place.schemaPath.startsWith("/")
      ? place.schemaPath
      : join(found.isFile() ? dirname(path) : path, place.schemaPath);
    const schemaPath = await realpath(beside).catch(() => undefined);
    if (schemaPath === undefined || !inside(schemaPath) || !(await stat(schemaPath)).isFile())
      return failed("model", "there is no schema file at the path that the model names");
    return { kind: "ok", path, schemaPath, sizeBytes };
  } catch (error) {
    signal.throwIfAborted();
    return classify(error);
  }
}

class StorageRootError extends Error {
  override readonly name = "StorageRootError";
}

class TooManyFilesError extends Error {
  override readonly name = "TooManyFilesError";
}

function parseFileUri(storageUri: string): string | undefined {
  if (!storageUri.startsWith("file:///")) return undefined;
  try {
    const url = new URL(storageUri);
    if (url.search !== "" || url.hash !== "") return undefined;
    const path = fileURLToPath(url);
    return path.includes("\0") ? undefined : path;
  } catch {
    return undefined;
  }
}

/** Links inside the directory are not followed and count nothing. */
async function directoryBytes(root: string, signal: AbortSignal): Promise<number> {
  let sizeBytes = 0;
  let entries = 0;
  let files = 0;
  const folders = [root];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const entry of await opendir(folder)) {
      signal.throwIfAborted();
      if (++entries > maxFiles) throw new TooManyFilesError(`the artefact has more than ${maxFiles} files`);
      const path = join(folder, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) {
        files += 1;
        sizeBytes += (await stat(path)).size;
      }
    }
  }
  if (files === 0) throw new EmptyError("the artefact is an empty folder");
  return sizeBytes;
}

class EmptyError extends Error {
  override readonly name = "EmptyError";
}

// What is missing or not a place for files at all is the record's fault; everything else may pass.
const modelCodes: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"]);

function classify(error: unknown): Failure {
  // Without its cause, which names the path on this pod.
  if (error instanceof StorageRootError) return failed("storage", error.message);
  if (error instanceof TooManyFilesError || error instanceof EmptyError) return failed("model", error.message);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ENOENT") return failed("model", "there is no artefact at this address");
  return failed(modelCodes.has(code) ? "model" : "storage", `the artefact cannot be read${codeOf(error)}`);
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
}

function failed(failure: Failure["failure"], reason: string): Failure {
  return { kind: "failed", failure, reason };
}
