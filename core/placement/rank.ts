// Owns which of the pods that may take a copy is best: a total order, by keys compared one after the other.
// Invariants: a lower key is better; keys are finite; no two pods are equal, since the last resort is the pod's id.
// Ages and loads are compared by their order of magnitude (powers of two): gauges are old by the time they are read, and
// exact ones would send every load of a burst to the same pod; so load queues, and at last a hash of model and pod, decide.
import { rendezvousWeight } from "../rendezvous.ts";
import { hasLabel, hasRoom } from "./filters.ts";
import type { PlacementRequest, PodView } from "./request.ts";

/** In the order they are compared. */
export interface RankKeys {
  /** 0 when the copy fits without an eviction, else 1. */
  readonly full: number;
  /** Preferred labels that the pod lacks. */
  readonly labelsLacking: number;
  /** Holders on the same node, then in the same zone. */
  readonly sameNode: number;
  readonly sameZone: number;
  /** Of a full pod, the age of its least recently used copy as minus log2 of seconds; 0 with room. */
  readonly cacheAge: number;
  /** Loads queued and running. */
  readonly queue: number;
  /** log2 of requests per second. */
  readonly load: number;
  /** Rendezvous hash of model and pod. */
  readonly spread: number;
}

/** Where the holders are, counted once for all pods of a decision. */
export interface HolderPlaces {
  readonly nodes: ReadonlyMap<string, number>;
  readonly zones: ReadonlyMap<string, number>;
}

export function countHolders(request: PlacementRequest, pods: Iterable<PodView>): HolderPlaces {
  const nodes = new Map<string, number>();
  const zones = new Map<string, number>();
  if (request.holders.size > 0) {
    for (const pod of pods) {
      if (!request.holders.has(pod.podId)) continue;
      if (pod.node !== undefined) nodes.set(pod.node, (nodes.get(pod.node) ?? 0) + 1);
      if (pod.zone !== undefined) zones.set(pod.zone, (zones.get(pod.zone) ?? 0) + 1);
    }
  }
  return { nodes, zones };
}

export function rankKeys(request: PlacementRequest, pod: PodView, holders: HolderPlaces): RankKeys {
  const room = hasRoom(pod, request.sizeBytes);
  return {
    full: room ? 0 : 1,
    labelsLacking: Object.entries(request.preferredLabels).filter(([key, value]) => !hasLabel(pod, key, value)).length,
    sameNode: pod.node === undefined ? 0 : (holders.nodes.get(pod.node) ?? 0),
    sameZone: pod.zone === undefined ? 0 : (holders.zones.get(pod.zone) ?? 0),
    cacheAge: room ? 0 : -magnitude(pod.oldestIdleMs / 1_000),
    queue: pod.queued + pod.loading,
    load: magnitude(pod.requestsPerSecond),
    spread: 2 ** 32 - rendezvousWeight(request.model, pod.podId),
  };
}

export interface Ranked {
  readonly podId: string;
  readonly keys: RankKeys;
}

/** Negative when `a` is the better pod; 0 only for the same pod. */
export function compareRanks(a: Ranked, b: Ranked): number {
  for (const key of keyOrder) {
    const difference = a.keys[key] - b.keys[key];
    if (difference !== 0) return difference;
  }
  if (a.podId === b.podId) return 0;
  return a.podId < b.podId ? -1 : 1;
}

const keyOrder = [
  "full",
  "labelsLacking",
  "sameNode",
  "sameZone",
  "cacheAge",
  "queue",
  "load",
  "spread",
] as const satisfies readonly (keyof RankKeys)[];

/** 0 below one, then one more with every doubling. */
function magnitude(amount: number): number {
  return amount < 1 ? 0 : Math.min(1 + Math.floor(Math.log2(amount)), 64);
}
