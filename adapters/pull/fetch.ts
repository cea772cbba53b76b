// Owns the filling of a staging folder with an artefact: its files side by side, its schema, its archive unpacked.
//
//   files/a/NAME      the artefact: a file, or a folder
//   files/s/NAME      its schema, when that lies elsewhere
//   raw/N             archives, until they are unpacked
//
// Invariants: nothing counts before all of it is there and checked; so many requests are under way at once and no more.
import { mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createSink, type UnpackedFile } from "./archive/sink.ts";
import { type Compression, unpackTar } from "./archive/tar.ts";
import { unpackZip } from "./archive/zip.ts";
import type { Staging } from "./cache/cache.ts";
import type { Manifest } from "./cache/manifest.ts";
import { showName } from "./paths.ts";
import type { Listing, Store, StoredFile } from "./store.ts";
import { type TransferOptions, transferFile } from "./transfer.ts";
import { PullError } from "./trouble.ts";

export interface Wish {
  readonly listing: Listing;
  /** A file of its own beside the artefact's. */
  readonly schema: StoredFile | undefined;
  /** Where the schema lies inside the artefact's folder. */
  readonly schemaInside: string | undefined;
}

export interface FetchOptions extends TransferOptions {
  /** Requests of one pull at once; 8 when absent. */
  readonly parallel?: number;
}

/** What a file counts for besides its bytes: many small ones are no trickle. */
const fileBytes = 16 * 1024;

type Filled = Pick<Manifest, "name" | "schema" | "files">;

export async function fetchArtefact(
  store: Store,
  wish: Wish,
  staging: Staging,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<Filled> {
  const { listing, schema } = wish;
  const name = `a/${listing.name}`;
  const jobs = listing.files.map((file, at) => ({
    file,
    to: file.archive !== undefined ? `raw/${at}` : join("files", listing.single ? name : `${name}/${file.path}`),
  }));
  const archives = jobs.filter(({ file }) => file.archive !== undefined);
  refuseClashes(jobs);
  const schemaName = schema === undefined ? undefined : `s/${schema.path}`;
  if (schema !== undefined && schemaName !== undefined) jobs.push({ file: schema, to: join("files", schemaName) });
  const files = await runJobs(store, jobs, staging, options, signal);
  if (archives.length > 0) {
    const unpacked = await unpack(archives, join("files", name), listing.layers === true, staging, options, signal);
    const rest = files.filter(({ path }) => !path.startsWith("raw/"));
    files.splice(0, files.length, ...rest, ...unpacked);
  }
  const inside = wish.schemaInside === undefined ? undefined : `${name}/${wish.schemaInside}`;
  if (inside !== undefined && !files.some(({ path }) => path === `files/${inside}`)) throw noSchema();
  const found = schemaName ?? inside;
  return {
    name,
    ...(found === undefined ? {} : { schema: found }),
    files: files.map(({ path, ...rest }) => ({ path: path.slice("files/".length), ...rest, mtimeMs: 0 })),
  };
}

export function noSchema(): PullError {
  return new PullError("absent", "there is no schema file at the path that the model names");
}

interface Job {
  readonly file: StoredFile;
  /** Below the staging folder. */
  readonly to: string;
}

/** A bucket may hold both `a` and `a/b`, or one name twice in two forms; a disk cannot. */
function refuseClashes(jobs: readonly Job[]): void {
  const files = new Set(jobs.map(({ to }) => to));
  if (files.size < jobs.length) throw new PullError("unsuitable", "the artefact has two files of one name");
  for (const { to } of jobs) {
    for (let folder = dirname(to); folder !== "."; folder = dirname(folder)) {
      if (files.has(folder)) {
        throw new PullError("unsuitable", `the artefact has ${showName(folder)} both as a file and as a folder`);
      }
    }
  }
}

async function runJobs(
  store: Store,
  jobs: readonly Job[],
  staging: Staging,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<UnpackedFile[]> {
  const done: UnpackedFile[] = [];
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const made = new Map<string, Promise<unknown>>();
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < jobs.length; at = next++) {
      const job = jobs[at];
      if (job === undefined) return;
      const path = join(staging.folder, job.to);
      const folder = dirname(path);
      let making = made.get(folder);
      if (making === undefined) {
        making = mkdir(folder, { recursive: true, mode: 0o700 });
        made.set(folder, making);
      }
      await making;
      either.throwIfAborted();
      const transferred = await transferFile(store, job.file, { path, grow: staging.grow }, options, either);
      options.moved?.(fileBytes);
      done.push({ path: job.to, ...transferred });
    }
  };
  const workers = Array.from({ length: Math.min(options.parallel ?? 8, jobs.length) }, async () => {
    try {
      await work();
    } catch (error) {
      // The first failure ends the others; what they end with says nothing.
      if (!failed.signal.aborted) failed.abort(error);
    }
  });
  await Promise.all(workers);
  signal.throwIfAborted();
  failed.signal.throwIfAborted();
  return done;
}

async function unpack(
  jobs: readonly Job[],
  to: string,
  layers: boolean,
  staging: Staging,
  { moved }: FetchOptions,
  signal: AbortSignal,
): Promise<readonly UnpackedFile[]> {
  const folder = join(staging.folder, to);
  // What a try before this one unpacked may not be whole.
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const archiveBytes = jobs.reduce((sum, { file }) => sum + (file.sizeBytes ?? 0), 0);
  const what = jobs[0]?.file.what ?? "";
  const sink = createSink({ folder, what, archiveBytes, grow: staging.grow, layers, moved });
  for (const { file, to: raw } of jobs) {
    const from = join(staging.folder, raw);
    if (file.archive === "zip") await unpackZip({ file: from, what: file.what, sink, signal });
    else {
      await unpackTar({
        file: from,
        compression: compressionOf(file.archive),
        what: file.what,
        sink,
        ...(layers ? { select: belowModels } : {}),
        whiteouts: layers,
        signal,
      });
    }
  }
  const files = sink.files();
  if (files.length === 0) throw new PullError("absent", `${what} holds no file${layers ? " below models/" : ""}`);
  await rm(join(staging.folder, "raw"), { recursive: true });
  return files.map((file) => ({ ...file, path: join(to, file.path) }));
}

function compressionOf(kind: StoredFile["archive"]): Compression {
  return kind === "tgz" ? "gzip" : kind === "tzst" ? "zstd" : "none";
}

/** An image is a whole file system; the model is in its folder `models`. */
function belowModels(name: string): string | undefined {
  const plain = name.replace(/^(?:\.?\/)+/, "");
  return plain.startsWith("models/") ? plain.slice("models/".length) : undefined;
}
