// Owns what is loaded ahead of demand: models that were used lately and have no copy any more, while pods have room for
// them. Pure.
// Invariants: nothing has to leave for it, a part of every pod's room stays for what is asked for, and a pod where loads wait
// gets none. Of the models that are lost the one used last is first; to find it costs the logarithm of how many there are.
import { createHeap, type HeapNode } from "./heap.ts";
import type { PodView } from "./placement/request.ts";

export interface FillingPolicy {
  /** This share of a pod's capacity is left free. */
  readonly reserveShare: number;
  /** Loads under way at a time, for each pod with room. */
  readonly perPod: number;
  /** What was not used for so long is not loaded ahead. */
  readonly maxIdleMs: number;
}

export const defaultFillingPolicy: FillingPolicy = { reserveShare: 1 / 8, perPod: 2, maxIdleMs: 3_600_000 };

/** How many loads ahead of demand the pods bear at a time. */
export function countFillable(pods: readonly PodView[], { reserveShare, perPod }: FillingPolicy): number {
  const open = pods.filter(
    ({ reachable, draining, queued, usedBytes, capacityBytes }) =>
      reachable && !draining && queued === 0 && usedBytes < capacityBytes * (1 - reserveShare),
  );
  return open.length * perPod;
}

/** Models that were used and have no copy. */
export interface LostModels {
  readonly size: number;
  add(model: string, usedMs: number): void;
  remove(model: string): void;
  /** Takes out the one that was used last; undefined when there is none that was used after `sinceMs`. */
  take(sinceMs: number): string | undefined;
}

interface Lost {
  readonly model: string;
  readonly usedMs: number;
}

export function createLostModels(): LostModels {
  const latest = createHeap<Lost>((a, b) => a.usedMs > b.usedMs || (a.usedMs === b.usedMs && a.model < b.model));
  const nodes = new Map<string, HeapNode<Lost>>();

  function remove(model: string): void {
    const node = nodes.get(model);
    if (node === undefined) return;
    nodes.delete(model);
    latest.remove(node);
  }

  return {
    get size() {
      return nodes.size;
    },
    add(model, usedMs) {
      remove(model);
      nodes.set(model, latest.push({ model, usedMs }));
    },
    remove,
    take(sinceMs) {
      const first = latest.first()?.value;
      if (first === undefined || first.usedMs < sinceMs) return undefined;
      remove(first.model);
      return first.model;
    },
  };
}
