// Owns the evening out of pods that do much more work than others of their runtime: which copies in use move, and where to.
// Pure.
//
//   even --beyond the wide band--> uneven --so for a while--> moving --within the narrow band--> even
//
// Work is requests per second. Pods above the mean give, pods below it take, and none crosses it: each move brings pods
// nearer to each other, so under a constant demand moves come to an end. What happens is averaged over half a minute, so
// whoever decides lets the last moves show before the next.
// Invariants: only a copy in use moves, one of a model at a time, and only where it fits without anything leaving that was used lately; what one round
// moves is bounded; between the two bands nothing begins, so a demand that swings there moves nothing.
import { place } from "./placement/place.ts";
import type { PlacementRequest, PodView } from "./placement/request.ts";

export interface RebalancePolicy {
  /** Uneven: the busiest pod does more than this many times the mean, or the calmest less than that. */
  readonly wide: { readonly over: number; readonly under: number };
  /** Even again: both are within these. */
  readonly narrow: { readonly over: number; readonly under: number };
  /** Pods that are not further apart, in requests per second, are even whatever they do. */
  readonly leastGap: number;
  /** So long they must have been uneven. */
  readonly holdMs: number;
  /** The part of a pod's distance from the mean that one round moves. */
  readonly step: number;
  /** Copies in one round. */
  readonly perRound: number;
  /** Requests per second of a copy that is worth a load. */
  readonly leastRate: number;
}

export const defaultRebalancePolicy: RebalancePolicy = Object.freeze({
  wide: Object.freeze({ over: 1.4, under: 0.5 }),
  narrow: Object.freeze({ over: 1.15, under: 0.8 }),
  leastGap: 50,
  holdMs: 15_000,
  step: 0.8,
  perRound: 16,
  leastRate: 1,
});

/** Of the pods of one runtime. */
export interface Evenness {
  readonly unevenSinceMs: number | undefined;
  readonly moving: boolean;
}

export const even: Evenness = Object.freeze({ unevenSinceMs: undefined, moving: false });

/** What is so now, by what was so before; the pods are of one runtime. */
export function watchEvenness(pods: readonly PodView[], before: Evenness, policy: RebalancePolicy, nowMs: number): Evenness {
  const rates = pods.filter(takesPart).map(({ requestsPerSecond }) => requestsPerSecond);
  const busiest = Math.max(...rates);
  const calmest = Math.min(...rates);
  if (rates.length < 2 || busiest - calmest < policy.leastGap) return even;
  const mean = sum(rates) / rates.length;
  const isWithin = ({ over, under }: RebalancePolicy["wide"]): boolean => busiest <= mean * over && calmest >= mean * under;
  if (before.moving) return isWithin(policy.narrow) ? even : before;
  if (isWithin(policy.wide)) return even;
  const unevenSinceMs = before.unevenSinceMs ?? nowMs;
  return { unevenSinceMs, moving: nowMs - unevenSinceMs >= policy.holdMs };
}

/** A copy that may move. */
export interface CopyUse {
  /** Of this copy alone. */
  readonly requestsPerSecond: number;
  /** How another pod would be asked for it. */
  readonly request: PlacementRequest;
}

export interface Move {
  readonly model: string;
  readonly revision: string;
  readonly from: string;
  readonly to: string;
  readonly reason: string;
}

/**
 * One round. `copiesOn` is asked only for pods that give, the busiest first.
 */
export function chooseMoves(
  pods: readonly PodView[],
  copiesOn: (podId: string) => Iterable<CopyUse>,
  policy: RebalancePolicy,
  nowMs: number,
): readonly Move[] {
  const all = pods.filter(takesPart);
  const mean = sum(all.map(({ requestsPerSecond }) => requestsPerSecond)) / all.length;
  const takers = new Map(all.filter((pod) => pod.requestsPerSecond < mean && pod.queued === 0).map((pod) => [pod.podId, pod]));
  const left = new Map(Array.from(takers, ([id, pod]) => [id, (mean - pod.requestsPerSecond) * policy.step]));
  const moves: Move[] = [];
  const moving = new Set<string>();
  for (const giver of all.filter((pod) => pod.requestsPerSecond > mean).sort(byRate)) {
    let budget = (giver.requestsPerSecond - mean) * policy.step;
    if (moves.length >= policy.perRound || budget < policy.leastRate) break;
    // The busiest first: the fewest loads.
    const copies = Array.from(copiesOn(giver.podId)).filter((copy) => copy.requestsPerSecond >= policy.leastRate);
    for (const { request, requestsPerSecond: rate } of copies.sort(byCopyRate)) {
      if (moves.length >= policy.perRound) break;
      if (rate > budget || moving.has(request.model)) continue;
      const bearing = Array.from(takers.values()).filter(({ podId }) => (left.get(podId) ?? 0) >= rate);
      const placed = place(request, bearing, nowMs);
      if (placed.kind === "nowhere") continue;
      const taker = takers.get(placed.podId);
      if (taker === undefined) continue;
      budget -= rate;
      left.set(taker.podId, (left.get(taker.podId) ?? 0) - rate);
      takers.set(taker.podId, { ...taker, usedBytes: taker.usedBytes + request.sizeBytes });
      moving.add(request.model);
      moves.push({
        model: request.model,
        revision: request.revision,
        from: giver.podId,
        to: taker.podId,
        reason: `${giver.podId} does ${giver.requestsPerSecond.toFixed(1)} requests/s, ${taker.podId} ${taker.requestsPerSecond.toFixed(1)}`,
      });
    }
  }
  return moves;
}

function takesPart({ reachable, draining }: PodView): boolean {
  return reachable && !draining;
}

function byRate(a: PodView, b: PodView): number {
  return b.requestsPerSecond - a.requestsPerSecond || (a.podId < b.podId ? -1 : 1);
}

function byCopyRate(a: CopyUse, b: CopyUse): number {
  return b.requestsPerSecond - a.requestsPerSecond || (a.request.model < b.request.model ? -1 : 1);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
