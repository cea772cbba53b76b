// Owns which artefacts there are, by content and by the keys that they came under, and who holds them. No disk, no bytes.
// Invariants: a key is of one entry at most; an entry that somebody holds is not idle; a dropped one is found no more.
import type { Manifest } from "./manifest.ts";

export interface Entry {
  readonly digest: string;
  readonly folder: string;
  readonly sizeBytes: number;
  readonly keys: Set<string>;
  pins: number;
  /** Its content was hashed since this process began. */
  hashed: boolean;
  touchedMs: number;
  /** No longer found; removed with the last pin. */
  dropped: boolean;
}

export interface FoundEntry {
  readonly digest: string;
  readonly folder: string;
  readonly manifest: Manifest;
  readonly hashed: boolean;
}

const maxKeys = 64;

export class Entries {
  readonly #byDigest = new Map<string, Entry>();
  readonly #byKey = new Map<string, Entry>();
  /** Those that nobody holds, the least recently used first. */
  readonly #idle = new Set<Entry>();

  get idle(): Iterable<Entry> {
    return this.#idle;
  }

  byDigest(digest: string): Entry | undefined {
    return this.#byDigest.get(digest);
  }

  byKey(key: string): Entry | undefined {
    return this.#byKey.get(key);
  }

  add({ digest, folder, manifest, hashed }: FoundEntry, nowMs: number): Entry {
    const sizeBytes = manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0);
    const entry: Entry = { digest, folder, sizeBytes, keys: new Set(), pins: 0, hashed, touchedMs: nowMs, dropped: false };
    this.#byDigest.set(digest, entry);
    this.#idle.add(entry);
    for (const key of manifest.keys) this.remember(entry, key);
    return entry;
  }

  remember(entry: Entry, key: string): void {
    const before = this.#byKey.get(key);
    if (before === entry || entry.dropped) return;
    before?.keys.delete(key);
    this.#byKey.set(key, entry);
    entry.keys.add(key);
    const [oldest] = entry.keys;
    if (entry.keys.size > maxKeys && oldest !== undefined) {
      entry.keys.delete(oldest);
      this.#byKey.delete(oldest);
    }
  }

  pin(entry: Entry): void {
    entry.pins += 1;
    this.#idle.delete(entry);
  }

  /** True when it was dropped and this was the last who held it. */
  unpin(entry: Entry): boolean {
    entry.pins -= 1;
    if (entry.pins > 0) return false;
    if (!entry.dropped) this.#idle.add(entry);
    return entry.dropped;
  }

  drop(entry: Entry): void {
    if (entry.dropped) return;
    entry.dropped = true;
    this.#byDigest.delete(entry.digest);
    this.#idle.delete(entry);
    for (const key of entry.keys) if (this.#byKey.get(key) === entry) this.#byKey.delete(key);
  }
}
