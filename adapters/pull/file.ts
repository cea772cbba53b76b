// Owns artefacts on a disk that the model server sees too: nothing is copied.
// Invariant: what is given out lies, with every symbolic link followed, inside the root; addresses are `file:///absolute/path`.
import { opendir, realpath, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { errorMessage } from "#core/errors.ts";
import type { Failure } from "../drivers/driver.ts";
import type { Pulled, Puller } from "./puller.ts";

const maxFiles = 10_000;

export interface FilePullerOptions {
  /** Absolute; nothing outside of it is given out. */
  readonly storageRoot: string;
}

interface Found {
  readonly kind: "ok";
  readonly path: string;
  readonly sizeBytes: number;
}

export function createFilePuller(options: FilePullerOptions): Puller {
  const find = async (storageUri: string, signal: AbortSignal): Promise<Found | Failure> => {
    const wanted = parseFileUri(storageUri);
    if (wanted === undefined) return failed("model", "a file address must look like file:///absolute/path");
    try {
      const root = await realpath(options.storageRoot).catch((cause: unknown) => {
        throw new StorageRootError("the storage root cannot be read", { cause });
      });
      const path = await realpath(wanted);
      if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) {
        return failed("model", "the artefact lies outside of this pod's storage root");
      }
      const found = await stat(path);
      signal.throwIfAborted();
      if (found.isFile()) return { kind: "ok", path, sizeBytes: found.size };
      if (!found.isDirectory()) return failed("model", "the artefact is neither a file nor a directory");
      return { kind: "ok", path, sizeBytes: await directoryBytes(path, signal) };
    } catch (error) {
      signal.throwIfAborted();
      return classify(error);
    }
  };
  return {
    probe: find,
    async pull(storageUri, signal): Promise<Pulled | Failure> {
      const found = await find(storageUri, signal);
      return found.kind === "ok" ? { ...found, release: async () => undefined } : found;
    },
  };
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
  let files = 0;
  const folders = [root];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const entry of await opendir(folder)) {
      signal.throwIfAborted();
      if (++files > maxFiles) throw new TooManyFilesError(`the artefact has more than ${maxFiles} files`);
      const path = join(folder, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) sizeBytes += (await stat(path)).size;
    }
  }
  return sizeBytes;
}

// What is missing or not a place for files at all is the record's fault; everything else may pass.
const modelCodes: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"]);

function classify(error: unknown): Failure {
  if (error instanceof StorageRootError) return failed("storage", errorMessage(error));
  if (error instanceof TooManyFilesError) return failed("model", error.message);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ENOENT") return failed("model", "there is no artefact at this address");
  return failed(modelCodes.has(code) ? "model" : "storage", `the artefact cannot be read${code === "" ? "" : ` (${code})`}`);
}

function failed(failure: Failure["failure"], reason: string): Failure {
  return { kind: "failed", failure, reason };
}
