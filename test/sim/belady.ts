// Owns the offline optimum that a fleet is measured against: one cache as large as all pods together that knows the
// future. On a miss it throws out what is needed latest, by Belady's rule; with sizes that is not quite the best there is,
// but no policy that lacks the future comes near. Each pod having room of its own only makes the fleet's task harder.
import { createHeap, type HeapNode } from "#core/heap.ts";
import type { Trace } from "./trace.ts";

/** How many requests find nothing. */
export function countOfflineMisses({ modelIds, sizesBytes, models }: Trace, capacityBytes: number): number {
  const never = modelIds.length;
  const nextUse = new Uint32Array(modelIds.length);
  const seen = new Uint32Array(models).fill(never);
  for (let at = modelIds.length - 1; at >= 0; at--) {
    const model = modelIds[at] ?? 0;
    nextUse[at] = seen[model] ?? never;
    seen[model] = at;
  }
  const held = new Map<number, HeapNode<{ model: number; next: number }>>();
  const latest = createHeap<{ model: number; next: number }>((a, b) => (a.next === b.next ? a.model < b.model : a.next > b.next));
  let usedBytes = 0;
  let misses = 0;
  for (const [at, model] of modelIds.entries()) {
    const next = nextUse[at] ?? never;
    const node = held.get(model);
    if (node !== undefined) {
      node.value = { model, next };
      latest.moved(node);
      continue;
    }
    misses += 1;
    // What is never asked for again is answered and not kept.
    if (next === never) continue;
    const sizeBytes = sizesBytes[model] ?? 1;
    held.set(model, latest.push({ model, next }));
    usedBytes += sizeBytes;
    while (usedBytes > capacityBytes) {
      const victim = latest.first();
      if (victim === undefined) break;
      latest.remove(victim);
      held.delete(victim.value.model);
      usedBytes -= sizesBytes[victim.value.model] ?? 1;
    }
  }
  return misses;
}
