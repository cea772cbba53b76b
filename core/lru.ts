// Owns the order in which entries were last used, with their sizes. The time is the caller's: a touch may come late and
// out of order, and an entry may be set with a time long past.
// Invariants: the order is by last use, then by when the entry was first set; totalBytes is the sum of all sizes.
// set, touch and delete take O(log n), oldest O(1), the first k of fromOldest O(k log k).
import { createHeap, type HeapNode } from "./heap.ts";

export interface LruEntry<K> {
  readonly key: K;
  readonly lastUsedMs: number;
  readonly sizeBytes: number;
}

export interface Lru<K> {
  readonly size: number;
  readonly totalBytes: number;
  get(key: K): LruEntry<K> | undefined;
  /** Puts an entry in, or replaces both time and size of the one that is there. */
  set(key: K, entry: { readonly lastUsedMs: number; readonly sizeBytes: number }): void;
  /** Never moves an entry back in time; false when there is none. */
  touch(key: K, lastUsedMs: number): boolean;
  /** False when there is none. */
  delete(key: K): boolean;
  oldest(): LruEntry<K> | undefined;
  /** Lazily, oldest first. Choose first and change afterwards: after a change the walk throws. */
  fromOldest(): Generator<LruEntry<K>, void>;
}

interface Ordered<K> extends LruEntry<K> {
  readonly sequence: number;
}

export function createLru<K>(): Lru<K> {
  const nodes = new Map<K, HeapNode<Ordered<K>>>();
  const heap = createHeap<Ordered<K>>((a, b) =>
    a.lastUsedMs === b.lastUsedMs ? a.sequence < b.sequence : a.lastUsedMs < b.lastUsedMs,
  );
  let nextSequence = 0;
  let totalBytes = 0;

  return {
    get size(): number {
      return nodes.size;
    },

    get totalBytes(): number {
      return totalBytes;
    },

    get: (key) => nodes.get(key)?.value,

    set(key, { lastUsedMs, sizeBytes }): void {
      requireFinite(lastUsedMs);
      // Whole bytes only: else sums drift.
      if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw new RangeError(`not a size in bytes: ${sizeBytes}`);
      const node = nodes.get(key);
      if (node === undefined) {
        nodes.set(key, heap.push({ key, lastUsedMs, sizeBytes, sequence: nextSequence++ }));
        totalBytes += sizeBytes;
        return;
      }
      totalBytes += sizeBytes - node.value.sizeBytes;
      node.value = { key, lastUsedMs, sizeBytes, sequence: node.value.sequence };
      heap.moved(node);
    },

    touch(key, lastUsedMs): boolean {
      requireFinite(lastUsedMs);
      const node = nodes.get(key);
      if (node === undefined) return false;
      if (lastUsedMs > node.value.lastUsedMs) {
        node.value = { ...node.value, lastUsedMs };
        heap.moved(node);
      }
      return true;
    },

    delete(key): boolean {
      const node = nodes.get(key);
      if (node === undefined) return false;
      nodes.delete(key);
      heap.remove(node);
      totalBytes -= node.value.sizeBytes;
      return true;
    },

    oldest: () => heap.first()?.value,

    fromOldest: () => heap.ascending(),
  };
}

function requireFinite(timeMs: number): void {
  if (!Number.isFinite(timeMs)) throw new RangeError(`not a time: ${timeMs}`);
}
