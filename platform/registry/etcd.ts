// Owns the registry on etcd: keys under a prefix, compare-and-set as transactions, pages at one revision, leases.
// Beside the keys lies a mark that names the store (`PREFIX#store`): an etcd that lost its data, or another one under the
// same address, has another mark, though its cluster id and revisions may look alike.
import { randomUUID } from "node:crypto";
import { Duplex } from "node:stream";
import {
  CompareResult,
  CompareTarget,
  GRPCResourceExhastedError,
  type ICompare,
  type IKeyValue,
  type ILeaseKeepAliveResponse,
  type IRangeRequest,
  type IRequestOp,
  type ITxnResponse,
} from "etcd3";
import { systemClock } from "../clock.ts";
import type { Log } from "../log.ts";
import { EtcdClient } from "./etcdclient.ts";
import { classify } from "./etcderrors.ts";
import { runEtcdWatch } from "./etcdwatch.ts";
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
import type { EtcdTarget } from "./target.ts";

const callTimeoutMs = 3_000;
const pageTimeoutMs = 10_000;
const revokeTimeoutMs = 1_000;
/** Of one answer, whatever the values are: with the largest it takes 64 MiB. */
const safeRangeEntries = 1_000;
/** Of an answer whose values are as large as those before it. */
const rangeBytes = 8 * 2 ** 20;
/** A page that has as much ends with its part, so a list of large values never lies in memory whole. */
const pageBytes = 64 * 2 ** 20;

/** Connects to nothing yet; throws a StartupError when the target's files cannot be used. */
export function openEtcdRegistry(target: EtcdTarget, log: Log): Registry {
  return new EtcdRegistry(new EtcdClient(target, log), target.prefix, log);
}

class EtcdRegistry implements Registry {
  readonly #client: EtcdClient;
  readonly #prefix: string;
  readonly #log: Log;
  readonly #closed = new AbortController();
  readonly #leases = new Set<KeptLease>();
  #seenStoreId: string | undefined;
  /** etcd counts all keys behind a part each time, so parts are as large as the values seen so far allow. */
  #partEntries = safeRangeEntries;

  constructor(client: EtcdClient, prefix: string, log: Log) {
    this.#client = client;
    this.#prefix = prefix;
    this.#log = log;
  }

  async get(key: string): Promise<Entry | undefined> {
    assertKey(key);
    const found = await this.#client.read((etcd, options) => etcd.kv.range({ key: this.#key(key) }, options), callTimeoutMs);
    return this.#entry(found.kvs[0]);
  }

  async list(prefix: string, { after, limit, at }: ListOptions): Promise<Page> {
    assertKey(prefix);
    if (!Number.isInteger(limit) || limit < 1 || limit > maxPageLimit)
      throw new RangeError(`a page has 1 to ${maxPageLimit} entries, not ${limit}`);
    const entries: Entry[] = [];
    let from = after === undefined || after < prefix ? prefix : `${after}\0`;
    let revision = at;
    let bytes = 0;
    for (;;) {
      const part = await this.#range(prefix, from, Math.min(this.#partEntries, limit - entries.length), revision);
      revision ??= part.revision;
      for (const kv of part.kvs) entries.push(this.#toEntry(kv));
      bytes += bytesOf(part.kvs);
      const isFull = entries.length >= limit || bytes >= pageBytes;
      if (!part.more || isFull) return { entries, revision, more: part.more, storeId: part.storeId };
      from = `${entries.at(-1)?.key}\0`;
    }
  }

  async put(key: string, value: string, { expect, lease }: PutOptions = {}): Promise<PutResult> {
    assertKey(key);
    if (isTooLarge(value)) return { kind: "too large", limitBytes: maxValueBytes };
    if (lease !== undefined && !lease.held()) return { kind: "lease ended" };
    const at = this.#key(key);
    const put = { request_put: { key: at, value: Buffer.from(value), ...(lease === undefined ? {} : { lease: lease.id }) } };
    try {
      const done = await this.#change(at, expect, put);
      return done.succeeded ? { kind: "ok", revision: Number(done.header.revision) } : this.#conflict(done);
    } catch (error) {
      if (error instanceof Error && classify(error.cause) === "lease gone") return { kind: "lease ended" };
      throw error;
    }
  }

  async putMany(entries: readonly NewEntry[]): Promise<PutManyResult> {
    for (const { key, value } of entries) {
      assertKey(key);
      if (isTooLarge(value)) return { kind: "too large", key, limitBytes: maxValueBytes };
    }
    assertPutMany(entries);
    // etcd refuses a transaction that writes a key twice: the last one would stand.
    const last = new Map(entries.map(({ key, value }) => [key, value]));
    const success = Array.from(last, ([key, value]) => ({ request_put: { key: this.#key(key), value: Buffer.from(value) } }));
    const done = await this.#client.write((etcd, options) => etcd.kv.txn({ success }, options), callTimeoutMs);
    return { kind: "ok", revision: Number(done.header.revision) };
  }

  async delete(key: string, { expect }: { readonly expect?: number | undefined } = {}): Promise<DeleteResult> {
    assertKey(key);
    const at = this.#key(key);
    const done = await this.#change(at, expect, { request_delete_range: { key: at } });
    return done.succeeded ? { kind: "ok", revision: Number(done.header.revision) } : this.#conflict(done);
  }

  async *watch(prefix: string, fromRevision: number, signal: AbortSignal): AsyncGenerator<WatchBatch> {
    assertKey(prefix);
    // A watch follows a list: what that one saw is what revisions are of.
    let storeId = this.#seenStoreId;
    yield* runEtcdWatch(
      {
        client: this.#client,
        key: this.#key(prefix),
        rangeEnd: this.#endOf(prefix),
        toKey: (key) => this.#ownKey(key),
        fromRevision,
        isSameStore: async () => {
          const found = await this.#storeId();
          storeId ??= found;
          return found === storeId;
        },
        log: this.#log,
      },
      AbortSignal.any([signal, this.#closed.signal]),
    );
  }

  async openLease(ttlMs: number): Promise<Lease> {
    if (!(ttlMs >= minLeaseMs)) throw new RangeError(`a lease lasts at least ${minLeaseMs} ms, not ${ttlMs}`);
    const sentMs = systemClock.monotonicMs();
    // One that was granted though the answer was lost ends by itself.
    const { ID: id } = await this.#client.write(
      (etcd, options) => etcd.leaseClient.leaseGrant({ TTL: Math.ceil(ttlMs / 1_000) }, options),
      callTimeoutMs,
    );
    const lease = createLease({
      id,
      ttlMs,
      clock: systemClock,
      extend: () => this.#extend(id, Math.max(500, ttlMs / 3)),
      close: async () => {
        this.#leases.delete(lease);
        // One that cannot be ended now ends by itself.
        await this.#client
          .write((etcd, options) => etcd.leaseClient.leaseRevoke({ ID: id }, options), revokeTimeoutMs)
          .catch((error: unknown) => this.#log.debug("a lease is left to end by itself", { error }));
      },
    });
    this.#leases.add(lease);
    lease.start(sentMs);
    return lease;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed.signal.aborted) return;
    await Promise.all(Array.from(this.#leases, (lease) => lease[Symbol.asyncDispose]()));
    this.#closed.abort();
    this.#client[Symbol.dispose]();
  }

  /** A part of a page together with the store's mark; as of `revision` unless that is forgotten. */
  async #range(
    prefix: string,
    from: string,
    limit: number,
    revision: number | undefined,
  ): Promise<{
    readonly kvs: readonly IKeyValue[];
    readonly more: boolean;
    readonly revision: number;
    readonly storeId: string;
  }> {
    const page: IRangeRequest = { key: this.#key(from), range_end: this.#endOf(prefix), limit, revision: revision ?? 0 };
    const mark = { request_range: { key: this.#markKey() } };
    try {
      const { header, responses } = await this.#client.read(
        (etcd, options) => etcd.kv.txn({ success: [{ request_range: page }, mark] }, options),
        pageTimeoutMs,
      );
      const [found, marked] = responses;
      const storeId = marked?.response_range.kvs[0]?.value.toString() ?? (await this.#storeId());
      this.#seenStoreId = storeId;
      const kvs = found?.response_range.kvs ?? [];
      this.#partEntries = partEntries(kvs) ?? this.#partEntries;
      return {
        kvs,
        more: found?.response_range.more ?? false,
        revision: Number(header.revision),
        storeId,
      };
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined;
      // Values larger than those before them: more than a message may have, or than comes in time.
      this.#partEntries = safeRangeEntries;
      if (cause instanceof GRPCResourceExhastedError && limit > safeRangeEntries) {
        return await this.#range(prefix, from, safeRangeEntries, revision);
      }
      const isForgotten = isOfAnotherTime(cause);
      if (revision === undefined || !isForgotten) throw error;
      return await this.#range(prefix, from, limit, undefined);
    }
  }

  /** The store's mark, made when there is none: whoever comes first makes it for all. */
  async #storeId(): Promise<string> {
    const key = this.#markKey();
    const found = await this.#client.read((etcd, options) => etcd.kv.range({ key }, options), callTimeoutMs);
    const known = found.kvs[0]?.value.toString();
    if (known !== undefined) return known;
    const id = randomUUID();
    const made = await this.#change(key, "absent", { request_put: { key, value: Buffer.from(id) } });
    return made.succeeded ? id : (made.responses[0]?.response_range.kvs[0]?.value.toString() ?? "");
  }

  async #change(key: Buffer, expect: number | "absent" | undefined, change: IRequestOp): Promise<ITxnResponse> {
    const compare: ICompare[] =
      expect === undefined
        ? []
        : expect === "absent"
          ? [{ key, target: CompareTarget.Create, result: CompareResult.Equal, create_revision: 0 }]
          : [{ key, target: CompareTarget.Mod, result: CompareResult.Equal, mod_revision: expect }];
    return await this.#client.write(
      (etcd, options) => etcd.kv.txn({ compare, success: [change], failure: [{ request_range: { key } }] }, options),
      callTimeoutMs,
    );
  }

  #conflict(done: ITxnResponse): { readonly kind: "conflict"; readonly current: Entry | undefined } {
    return { kind: "conflict", current: this.#entry(done.responses[0]?.response_range.kvs[0]) };
  }

  /** Asks for one more time of the lease; false when it is gone. */
  async #extend(id: string, timeoutMs: number): Promise<boolean> {
    const stream = await this.#client.stream((etcd, options) => etcd.leaseClient.leaseKeepAlive(options));
    if (!(stream instanceof Duplex)) throw new Error("etcd3 gave a stream of another kind");
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const late = setTimeout(() => reject(new Error(`etcd did not extend a lease within ${timeoutMs} ms`)), timeoutMs);
    stream.on("data", ({ TTL: ttl }: ILeaseKeepAliveResponse) => resolve(Number(ttl) > 0));
    stream.on("error", reject);
    stream.on("end", () => reject(new Error("etcd closed the stream of a lease")));
    try {
      stream.write({ ID: id });
      return await promise;
    } catch (error) {
      throw this.#client.onStreamError(error);
    } finally {
      clearTimeout(late);
      stream.cancel();
    }
  }

  #key(key: string): Buffer {
    return Buffer.from(this.#prefix + key);
  }

  #ownKey(key: Buffer): string {
    return key.toString().slice(this.#prefix.length);
  }

  /** Keys are printable ASCII: the character after all of them ends the range. */
  #endOf(prefix: string): Buffer {
    return Buffer.from(`${this.#prefix}${prefix}\u007F`);
  }

  #markKey(): Buffer {
    return Buffer.from(`${this.#prefix}#store`);
  }

  #entry(kv: IKeyValue | undefined): Entry | undefined {
    return kv === undefined ? undefined : this.#toEntry(kv);
  }

  #toEntry({ key, value, mod_revision: revision }: IKeyValue): Entry {
    return { key: this.#ownKey(key), value: value.toString(), revision: Number(revision) };
  }
}

/** Compacted, or not reached yet by a store that went back. */
function isOfAnotherTime(error: unknown): boolean {
  return (
    classify(error) === "compacted" ||
    (error instanceof Error && error.message.includes("required revision is a future revision"))
  );
}

/** How many entries like these make an answer of a good size; undefined when they are too few to say. */
function partEntries(kvs: readonly IKeyValue[]): number | undefined {
  if (kvs.length < 100) return undefined;
  return Math.min(maxPageLimit, Math.max(safeRangeEntries, Math.floor((rangeBytes * kvs.length) / bytesOf(kvs))));
}

function bytesOf(kvs: readonly IKeyValue[]): number {
  return kvs.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
}
