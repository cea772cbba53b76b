// Owns the registry's contract: a small key-value store in the manner of etcd, for what should exist and who is alive.
// Every change has a revision greater than all before; changes made together share one. A list is told with the revision it
// was read at, and a watch from that revision tells every later change: nothing lies between. One suite (suite.ts) holds all
// implementations to this.
// A registry that does not answer in time rejects with a WarmpathError `registry-unavailable`; whether a write was done is
// then not known.

/** Keys are 1 to 512 characters of printable ASCII and begin with `/`. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  /** The revision of its last change. */
  readonly revision: number;
}

export interface Page {
  /** In the order of the keys. */
  readonly entries: readonly Entry[];
  /** What the page was read at: a watch from the first page's revision misses nothing of any page. */
  readonly revision: number;
  /** Another one when the store behind the registry is another one: revisions of the two are not to be compared. */
  readonly storeId: string;
  /** Whether more follow after the last entry. */
  readonly more: boolean;
}

export interface ListOptions {
  /** Only keys greater than this one. */
  readonly after?: string | undefined;
  /** 1 to 20,000 entries; a page of large ones may have fewer, and says that more follow. */
  readonly limit: number;
  /** As of this revision of an earlier page, where the store still knows it; otherwise as it is now. */
  readonly at?: number | undefined;
}

export interface PutOptions {
  /** Only when the key is at this revision, or not there. */
  readonly expect?: number | "absent" | undefined;
  /** The entry vanishes when the lease ends. */
  readonly lease?: Lease | undefined;
}

export interface Conflict {
  readonly kind: "conflict";
  readonly current: Entry | undefined;
}

export type PutResult =
  | { readonly kind: "ok"; readonly revision: number }
  | Conflict
  | { readonly kind: "lease ended" }
  | { readonly kind: "too large"; readonly limitBytes: number };

/** Deleting what is not there is well when nothing else was expected; the revision is then the current one. */
export type DeleteResult = { readonly kind: "ok"; readonly revision: number } | Conflict;

export type PutManyResult =
  | { readonly kind: "ok"; readonly revision: number }
  | { readonly kind: "too large"; readonly key: string; readonly limitBytes: number };

export interface NewEntry {
  readonly key: string;
  readonly value: string;
}

export type Change =
  | { readonly type: "put"; readonly key: string; readonly value: string; readonly revision: number }
  | { readonly type: "delete"; readonly key: string; readonly revision: number };

export type WatchBatch =
  | {
      readonly kind: "changes";
      /** In the order of their revisions. Of several changes of one key only the last may be told. */
      readonly changes: readonly Change[];
      /** A watch may go on from here. */
      readonly revision: number;
    }
  /** The last batch: changes that were wanted are forgotten. List again, and watch from the list's revision. */
  | { readonly kind: "compacted" };

export interface Lease extends AsyncDisposable {
  readonly id: string;
  /**
   * Whether it is certainly still held: false from its own deadline on, which is never later than the registry's, however
   * long this process stood still. Once false it never becomes true again.
   */
  held(): boolean;
  /** Aborted when the lease is lost or closed. */
  readonly ended: AbortSignal;
}

export interface Registry extends AsyncDisposable {
  get(key: string): Promise<Entry | undefined>;
  list(prefix: string, options: ListOptions): Promise<Page>;
  put(key: string, value: string, options?: PutOptions): Promise<PutResult>;
  /** All of them or none, whatever was there; at most maxPutMany entries of maxPutManyBytes together (putAll takes more). */
  putMany(entries: readonly NewEntry[]): Promise<PutManyResult>;
  delete(key: string, options?: { readonly expect?: number | undefined }): Promise<DeleteResult>;
  /** Changes later than `fromRevision`; ends quietly when the signal is aborted or the registry closed. */
  watch(prefix: string, fromRevision: number, signal: AbortSignal): AsyncIterable<WatchBatch>;
  /**
   * A lease kept alive until it is closed. Its entries vanish at its close, or `ttlMs` after its holder was last heard;
   * etcd counts in whole seconds and at least two, and begins anew when it was down itself.
   */
  openLease(ttlMs: number): Promise<Lease>;
}

export const maxValueBytes = 65_536;
export const maxKeyLength = 512;
export const maxPageLimit = 20_000;
/** What a stock etcd takes in one transaction: 128 operations and 1.5 MiB. */
export const maxPutMany = 100;
export const maxPutManyBytes = 2 ** 20;
/** Shorter leases would end by a garbage collection. */
export const minLeaseMs = 100;

const keyForm = /^\/[\u0020-\u007E]*$/;

/** Keys come from our own code: a bad one is a fault. */
export function assertKey(key: string): void {
  if (key.length > maxKeyLength || !keyForm.test(key))
    throw new RangeError(`not a registry key: ${JSON.stringify(key.slice(0, 100))}`);
}

/** Throws when they are more than go in one transaction: callers cut them into parts. */
export function assertPutMany(entries: readonly NewEntry[]): void {
  const bytes = entries.reduce((sum, { key, value }) => sum + key.length + Buffer.byteLength(value), 0);
  if (entries.length > maxPutMany || bytes > maxPutManyBytes) {
    throw new RangeError(`${entries.length} entries of ${bytes} bytes do not go in one transaction`);
  }
}

export function isTooLarge(value: string): boolean {
  // A code unit is at most 3 bytes of UTF-8: counting is rarely needed.
  return value.length * 3 > maxValueBytes && Buffer.byteLength(value) > maxValueBytes;
}
