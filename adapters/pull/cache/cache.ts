// Owns the artefacts on this pod's disk: kept by their content, found again by what they were listed as.
//
//   DIR/content/DIGEST-N/ whole artefacts: manifest.json, files/   (renamed into place when complete)
//   DIR/partial/KEY/      transfers under way, or cut off: taken up again by the next one of the same listing
//   DIR/trash/            what is being removed
//
// Invariants: what lies under content/ is complete; it is checked each time it is given out; used + reserved bytes stay
// within the bound; an artefact that is held by somebody is never removed; one process owns the folder.
import { createHash, randomUUID } from "node:crypto";
import { chmod, mkdir, readdir, rename, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "#platform/log.ts";
import { PullError } from "../trouble.ts";
import { Entries, type Entry, type FoundEntry } from "./entries.ts";
import { type Check, checkFiles, digestOf, type Manifest, readManifest, writeManifest } from "./manifest.ts";
import { claimFolder } from "./owner.ts";
import { createSpace, type Space } from "./space.ts";
import { createTrash, type Trash } from "./trash.ts";

export interface Lease {
  /** The folder of the artefact's files. */
  readonly folder: string;
  readonly manifest: Manifest;
  release(): void;
}

/** Where a transfer puts files, and asks for the bytes that it had not asked for before. */
export interface Staging {
  readonly folder: string;
  /** Throws when there is no room; never waits, since whoever waits holds bytes that others wait for. */
  grow(bytes: number): void;
}

export interface Wanted {
  /** What was listed: the same key is the same content. */
  readonly key: string;
  /** Where from: what to fall back on when the store cannot be reached. */
  readonly sourceKey: string;
  /** As listed; 0 when unknown. */
  readonly sizeBytes: number;
  /** False: what a transfer leaves behind is of no use to another. */
  readonly resumable: boolean;
  /** Puts the files into the staging folder and tells what they are. */
  readonly fill: (staging: Staging, signal: AbortSignal) => Promise<Pick<Manifest, "name" | "schema" | "files">>;
}

export interface DiskCache extends AsyncDisposable {
  readonly usedBytes: number;
  readonly maxBytes: number;
  /** Throws PullError, or the signal's reason. Transfers of one key under way at once are one. */
  take(wanted: Wanted, signal: AbortSignal): Promise<Lease>;
  /** What came from this source last; undefined when it is not here. */
  takeLast(sourceKey: string, signal: AbortSignal): Promise<Lease | undefined>;
}

export interface DiskCacheOptions {
  readonly folder: string;
  readonly maxBytes: number;
  /** Other users of the machine may read what is kept. */
  readonly readable?: boolean;
  readonly log: Log;
}

interface Flight {
  readonly done: Promise<Entry>;
  readonly stop: AbortController;
  waiting: number;
  entry: Entry | undefined;
}

const touchEveryMs = 60_000;

export async function openDiskCache(options: DiskCacheOptions): Promise<DiskCache> {
  const { folder, readable = false } = options;
  for (const name of ["content", "partial", "trash"]) await mkdir(join(folder, name), { recursive: true, mode: 0o700 });
  if (readable) for (const path of [folder, join(folder, "content")]) await chmod(path, 0o755);
  await claimFolder(folder);
  const cache = new ContentCache(options);
  await cache.open();
  return cache;
}

class ContentCache implements DiskCache {
  readonly #options: DiskCacheOptions;
  readonly #space: Space;
  readonly #entries = new Entries();
  readonly #trash: Trash;
  /** Bytes of transfers that were cut off, by key; the oldest first. */
  readonly #leftOver = new Map<string, number>();
  readonly #flights = new Map<string, Flight>();

  constructor(options: DiskCacheOptions) {
    this.#options = options;
    this.#trash = createTrash(join(options.folder, "trash"), options.log);
    this.#space = createSpace(options.maxBytes, (bytes) => this.#evict(bytes));
  }

  get usedBytes(): number {
    return this.#space.usedBytes;
  }

  get maxBytes(): number {
    return this.#options.maxBytes;
  }

  /** Takes over what an earlier process left. */
  async open(): Promise<void> {
    const at = (...names: readonly string[]): string => join(this.#options.folder, ...names);
    await this.#trash.empty();
    const found: { readonly digest: string; readonly folder: string; readonly manifest: Manifest; readonly usedMs: number }[] =
      [];
    for (const name of await readdir(at("content"))) {
      const folder = at("content", name);
      const manifest = await readManifest(folder);
      const digest = manifest === undefined ? "" : digestOf(manifest);
      if (manifest === undefined || !name.startsWith(`${digest}-`) || found.some((other) => other.digest === digest)) {
        this.#trash.discard(folder);
      } else found.push({ digest, folder, manifest, usedMs: (await stat(join(folder, "manifest.json"))).mtimeMs });
    }
    for (const each of found.toSorted((a, b) => a.usedMs - b.usedMs)) this.#add({ ...each, hashed: false });
    for (const key of await readdir(at("partial"))) {
      const bytes = await folderBytes(at("partial", key));
      this.#leftOver.set(key, bytes);
      this.#space.use(bytes);
    }
    this.#space.trim();
  }

  async take(wanted: Wanted, signal: AbortSignal): Promise<Lease> {
    for (;;) {
      signal.throwIfAborted();
      const known = this.#entries.byKey(wanted.key);
      if (known !== undefined) {
        const lease = await this.#lease(known, signal);
        if (lease !== undefined) {
          this.#entries.remember(known, wanted.sourceKey);
          return lease;
        }
        continue;
      }
      const lease = await this.#join(wanted, signal);
      if (lease !== undefined) return lease;
    }
  }

  async takeLast(sourceKey: string, signal: AbortSignal): Promise<Lease | undefined> {
    const known = this.#entries.byKey(sourceKey);
    return known === undefined ? undefined : await this.#lease(known, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const flights = [...this.#flights.values()];
    for (const { stop } of flights) stop.abort(new Error("the adapter is stopping"));
    await Promise.allSettled(flights.map(({ done }) => done));
    await this.#trash.settled();
  }

  /** Waits for the transfer of this key, which ends when nobody waits for it any longer. */
  async #join(wanted: Wanted, signal: AbortSignal): Promise<Lease | undefined> {
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    aborted.catch(() => undefined);
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      for (
        let dying = this.#flights.get(wanted.key);
        dying?.stop.signal.aborted === true;
        dying = this.#flights.get(wanted.key)
      ) {
        await Promise.race([dying.done.catch(() => undefined), aborted]);
      }
      const flight = this.#flights.get(wanted.key) ?? this.#begin(wanted);
      flight.waiting += 1;
      try {
        const entry = await Promise.race([flight.done, aborted]);
        return await this.#lease(entry, signal);
      } finally {
        flight.waiting -= 1;
        if (flight.waiting === 0) {
          flight.stop.abort(signal.reason ?? new Error("nobody waits for the transfer"));
          if (flight.entry !== undefined) this.#unpin(flight.entry);
        }
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #begin(wanted: Wanted): Flight {
    const stop = new AbortController();
    const transfer = this.#transfer(wanted, stop.signal).then((entry) => {
      // Until each that waits has a lease of its own.
      this.#entries.pin(entry);
      flight.entry = entry;
      if (flight.waiting === 0) this.#unpin(entry);
      return entry;
    });
    const done = transfer.finally(() => {
      if (this.#flights.get(wanted.key) === flight) this.#flights.delete(wanted.key);
    });
    done.catch(() => undefined);
    const flight: Flight = { done, stop, waiting: 0, entry: undefined };
    this.#flights.set(wanted.key, flight);
    return flight;
  }

  async #transfer(wanted: Wanted, signal: AbortSignal): Promise<Entry> {
    const { key, fill, resumable } = wanted;
    const staging = join(this.#options.folder, "partial", key);
    let reserved = await this.#reserve(key, wanted.sizeBytes, signal);
    let entry: Entry | undefined;
    try {
      await mkdir(staging, { recursive: true, mode: 0o700 });
      const grow = (bytes: number): void => {
        this.#space.grow(bytes);
        reserved += bytes;
      };
      const filled = await fill({ folder: staging, grow }, signal);
      const manifest: Manifest = { ...filled, keys: [key, wanted.sourceKey] };
      signal.throwIfAborted();
      entry = await this.#complete(staging, manifest);
      // What was reserved became what is used; a listing may have said more than came.
      this.#space.free(reserved);
      return entry;
    } catch (error) {
      if (isDiskFull(error)) throw new PullError("too-large", "the disk of this pod's cache is full", { cause: error });
      throw error;
    } finally {
      if (entry === undefined) {
        this.#space.free(reserved);
        if (resumable) await this.#keepLeftOver(key, staging);
        else this.#trash.discard(staging);
      }
    }
  }

  /**
   * Room for the whole transfer, with what is there of it already counted in. While it waits, what is there may be evicted:
   * two that kept theirs could wait for each other.
   */
  async #reserve(key: string, sizeBytes: number, signal: AbortSignal): Promise<number> {
    const before = this.#leftOver.get(key) ?? 0;
    this.#leftOver.delete(key);
    if (this.#space.tryReserve(Math.max(0, sizeBytes - before))) return Math.max(before, sizeBytes);
    if (before > 0) this.#leftOver.set(key, before);
    await this.#space.reserve(sizeBytes, signal);
    const kept = this.#leftOver.get(key) ?? 0;
    this.#leftOver.delete(key);
    this.#space.free(Math.min(kept, sizeBytes));
    return Math.max(kept, sizeBytes);
  }

  async #complete(staging: string, manifest: Manifest): Promise<Entry> {
    const digest = digestOf(manifest);
    const known = this.#entries.byDigest(digest);
    if (known !== undefined) {
      for (const key of manifest.keys) this.#entries.remember(known, key);
      this.#trash.discard(staging);
      return known;
    }
    await writeManifest(staging, manifest);
    if (this.#options.readable === true) await openToAll(staging);
    const folder = join(this.#options.folder, "content", `${digest}-${randomUUID().slice(0, 8)}`);
    await rename(staging, folder);
    return this.#add({ digest, folder, manifest, hashed: true });
  }

  #add(found: FoundEntry): Entry {
    const entry = this.#entries.add(found, Date.now());
    this.#space.use(entry.sizeBytes);
    return entry;
  }

  /** Checks what is there and pins it; undefined when it is not what it was: it is gone then. */
  async #lease(entry: Entry, signal: AbortSignal): Promise<Lease | undefined> {
    if (entry.dropped) return undefined;
    const { folder } = entry;
    this.#entries.pin(entry);
    let kept = false;
    try {
      const manifest = await readManifest(folder);
      const check: Check = entry.hashed ? "facts" : "content";
      if (manifest === undefined || !(await checkFiles(folder, manifest, check, signal))) {
        this.#options.log.warn("an artefact on the disk is not what it was and is fetched anew", { digest: entry.digest });
        this.#entries.drop(entry);
        return undefined;
      }
      entry.hashed = true;
      await this.#touch(entry, folder);
      kept = true;
      let released = false;
      return {
        folder: join(folder, "files"),
        manifest,
        release: () => {
          if (released) return;
          released = true;
          this.#unpin(entry);
        },
      };
    } finally {
      if (!kept) this.#unpin(entry);
    }
  }

  /** So that whoever comes after this process knows what was used last. */
  async #touch(entry: Entry, folder: string): Promise<void> {
    const nowMs = Date.now();
    if (nowMs - entry.touchedMs < touchEveryMs) return;
    entry.touchedMs = nowMs;
    await utimes(join(folder, "manifest.json"), nowMs / 1_000, nowMs / 1_000).catch(() => undefined);
  }

  #unpin(entry: Entry): void {
    if (this.#entries.unpin(entry)) this.#remove(entry);
    this.#space.changed();
  }

  #remove(entry: Entry): void {
    this.#space.free(entry.sizeBytes);
    this.#trash.discard(entry.folder);
  }

  /** Frees at least so many bytes if it can: cut-off transfers first, then the least recently used. */
  #evict(bytes: number): void {
    let freed = 0;
    for (const [key, size] of this.#leftOver) {
      if (freed >= bytes) return;
      this.#leftOver.delete(key);
      this.#space.free(size);
      freed += size;
      this.#trash.discard(join(this.#options.folder, "partial", key));
    }
    for (const entry of this.#entries.idle) {
      if (freed >= bytes) return;
      this.#entries.drop(entry);
      this.#remove(entry);
      freed += entry.sizeBytes;
    }
  }

  async #keepLeftOver(key: string, staging: string): Promise<void> {
    const bytes = await folderBytes(staging);
    if (bytes === 0) return this.#trash.discard(staging);
    this.#leftOver.set(key, bytes);
    this.#space.use(bytes);
    this.#space.trim();
  }
}

/** A short name for whatever tells two things apart. */
export function keyOf(facts: unknown): string {
  return createHash("sha256").update(JSON.stringify(facts)).digest("base64url").slice(0, 32);
}

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
}

async function openToAll(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory() || entry.isFile()) await chmod(join(entry.parentPath, entry.name), entry.isFile() ? 0o644 : 0o755);
  }
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
}
