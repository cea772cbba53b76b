// Owns the registry's contract: a small key-value store in the manner of etcd, for what should exist and who is alive.
// Every change has a revision of its own, greater than all before. A list is told with the revision it was read at, and a
// watch from that revision tells every later change: nothing lies between. One suite (suite.ts) holds all
// implementations to this.

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
  /** Whether more follow after the last entry. */
  readonly more: boolean;
}

export interface ListOptions {
  /** Only keys greater than this one. */
  readonly after?: string | undefined;
  /** 1 to 10,000 entries. */
  readonly limit: number;
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
  /** All of them or none, whatever was there. */
  putMany(entries: readonly { readonly key: string; readonly value: string }[]): Promise<PutManyResult>;
  delete(key: string, options?: { readonly expect?: number | undefined }): Promise<DeleteResult>;
  /** Changes later than `fromRevision`; ends quietly when the signal is aborted or the registry closed. */
  watch(prefix: string, fromRevision: number, signal: AbortSignal): AsyncIterable<WatchBatch>;
  /** A lease kept alive until it is closed. Its entries vanish at its close, or `ttlMs` after its holder was last heard. */
  openLease(ttlMs: number): Promise<Lease>;
}

export const maxValueBytes = 65_536;
export const maxKeyLength = 512;
export const maxPageLimit = 10_000;
/** Shorter leases would end by a garbage collection. */
export const minLeaseMs = 100;

const keyForm = /^\/[\u0020-\u007E]*$/;

/** Keys come from our own code: a bad one is a fault. */
export function assertKey(key: string): void {
  if (key.length > maxKeyLength || !keyForm.test(key))
    throw new RangeError(`not a registry key: ${JSON.stringify(key.slice(0, 100))}`);
}

export function isTooLarge(value: string): boolean {
  // A code unit is at most 3 bytes of UTF-8: counting is rarely needed.
  return value.length * 3 > maxValueBytes && Buffer.byteLength(value) > maxValueBytes;
}
