// Owns the embedded registry: the store of one file, with what needs time around it: watchers, leases, expiry.
// Several processes may open one file. Writes of this opener wake its watchers at once; those of others are found by a
// look at SQLite's data version every 100 ms, which also ends the leases of holders that are gone.
import { randomUUID } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { systemClock } from "../clock.ts";
import { createLease, type KeptLease } from "./lease.ts";
import {
  assertKey,
  assertPutMany,
  type DeleteResult,
  type Entry,
  isTooLarge,
  type Lease,
  type ListOptions,
  maxPageLimit,
  maxValueBytes,
  minLeaseMs,
  type NewEntry,
  type Page,
  type PutManyResult,
  type PutOptions,
  type PutResult,
  type Registry,
  type WatchBatch,
} from "./registry.ts";
import { openStore, type Store } from "./store.ts";

export interface EmbeddedOptions {
  readonly file: string;
  /** Deletions remembered for watchers that come back; 10,000 when absent. */
  readonly keepDeletions?: number;
}

const lookEveryMs = 100;
const batchLimit = 1_000;

export async function openEmbeddedRegistry(options: EmbeddedOptions): Promise<Registry> {
  const registry = new EmbeddedRegistry(openStore({ file: options.file, keepDeletions: options.keepDeletions ?? 10_000 }));
  registry.start();
  return registry;
}

class EmbeddedRegistry implements Registry {
  readonly #store: Store;
  readonly #closed = new AbortController();
  /** Emits "change" at each write that may interest a watcher. */
  readonly #wake = new EventEmitter().setMaxListeners(0);
  readonly #leases = new Set<KeptLease>();
  #timer: NodeJS.Timeout | undefined;
  #dataVersion = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  start(): void {
    this.#store.endLeases();
    this.#dataVersion = this.#store.dataVersion();
    this.#timer = setInterval(() => this.#look(), lookEveryMs);
  }

  async get(key: string): Promise<Entry | undefined> {
    assertKey(key);
    return this.#store.get(key);
  }

  async list(prefix: string, { after, limit }: ListOptions): Promise<Page> {
    assertKey(prefix);
    if (!Number.isInteger(limit) || limit < 1 || limit > maxPageLimit)
      throw new RangeError(`a page has 1 to ${maxPageLimit} entries, not ${limit}`);
    return this.#store.list(prefix, after, limit);
  }

  async put(key: string, value: string, { expect, lease }: PutOptions = {}): Promise<PutResult> {
    assertKey(key);
    if (isTooLarge(value)) return { kind: "too large", limitBytes: maxValueBytes };
    if (lease !== undefined && !lease.held()) return { kind: "lease ended" };
    const result = this.#store.put(key, value, expect, lease?.id);
    if (result.kind === "ok") this.#wake.emit("change");
    return result;
  }

  async putMany(entries: readonly NewEntry[]): Promise<PutManyResult> {
    for (const { key, value } of entries) {
      assertKey(key);
      if (isTooLarge(value)) return { kind: "too large", key, limitBytes: maxValueBytes };
    }
    assertPutMany(entries);
    const revision = this.#store.putMany(entries);
    this.#wake.emit("change");
    return { kind: "ok", revision };
  }

  async delete(key: string, { expect }: { readonly expect?: number | undefined } = {}): Promise<DeleteResult> {
    assertKey(key);
    const result = this.#store.delete(key, expect);
    if (result.kind === "ok") this.#wake.emit("change");
    return result;
  }

  async *watch(prefix: string, fromRevision: number, signal: AbortSignal): AsyncGenerator<WatchBatch> {
    assertKey(prefix);
    const ended = AbortSignal.any([signal, this.#closed.signal]);
    let revision = fromRevision;
    while (!ended.aborted) {
      const found = this.#store.changesAfter(revision, batchLimit);
      if (found === "compacted") {
        yield { kind: "compacted" };
        return;
      }
      const moved = found.revision > revision;
      revision = found.revision;
      const changes = found.changes.filter((change) => change.key.startsWith(prefix));
      if (changes.length > 0) yield { kind: "changes", changes, revision };
      // Nothing can be written between the look and the wait: both happen in one turn.
      if (moved) await turn();
      else await once(this.#wake, "change", { signal: ended }).catch(() => undefined);
    }
  }

  async openLease(ttlMs: number): Promise<Lease> {
    if (!(ttlMs >= minLeaseMs)) throw new RangeError(`a lease lasts at least ${minLeaseMs} ms, not ${ttlMs}`);
    const id = randomUUID();
    const sentMs = systemClock.monotonicMs();
    this.#store.openLease(id, ttlMs);
    const lease = createLease({
      id,
      ttlMs,
      clock: systemClock,
      extend: async () => this.#store.extendLease(id, ttlMs),
      close: async () => {
        this.#leases.delete(lease);
        if (this.#closed.signal.aborted) return;
        this.#store.closeLease(id);
        this.#wake.emit("change");
      },
    });
    this.#leases.add(lease);
    lease.start(sentMs);
    return lease;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed.signal.aborted) return;
    for (const lease of this.#leases) await lease[Symbol.asyncDispose]();
    clearInterval(this.#timer);
    this.#closed.abort();
    this.#store[Symbol.dispose]();
  }

  #look(): void {
    let changed: boolean;
    try {
      changed = this.#store.endLeases();
      const version = this.#store.dataVersion();
      changed ||= version !== this.#dataVersion;
      this.#dataVersion = version;
    } catch (error) {
      // Another process holds the file for long: the next look is soon.
      if (isBusy(error)) return;
      throw error;
    }
    if (changed) this.#wake.emit("change");
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && (error.errcode === 5 || error.errcode === 6);
}
