// Owns which of the pods that may take a copy is best: a total order, by keys compared one after the other.
// Invariants: a lower key is better; keys are finite; no two pods are equal, since the last resort is the pod's id.
// Ages and loads are compared by their order of magnitude (powers of two): gauges are old by the time they are read, and
// exact ones would send every load of a burst to the same pod; so load queues, and at last a hash of model and pod, decide.
import { rendezvousWeights } from "../rendezvous.ts";
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
  /** 1 when the copy would make a new placement set although the holders have partners enough. */
  readonly stranger: number;
  /** log2 of the minutes that the pod has been known, when new ones are preferred. */
  readonly elder: number;
  /** log2 of requests per second, for a model that is used much; 0 for others. */
  readonly heat: number;
  /** Of a full pod, the age of its least recently used copy as minus log2 of seconds; 0 with room. */
  readonly cacheAge: number;
  /** Loads queued and running. */
  readonly queue: number;
  /** log2 of requests per second; its negative for a model that is hardly used, which leaves calm pods to busy models. */
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

type Key = keyof RankKeys;

/** In the order in which they are compared. */
const keyOrder = [
  "full",
  "labelsLacking",
  "sameNode",
  "sameZone",
  "elder",
  "heat",
  "stranger",
  "cacheAge",
  "queue",
  "load",
  "spread",
] as const satisfies readonly Key[];

/** How good pods are for one request. */
export interface Ranking {
  keys(pod: PodView): RankKeys;
  /** The best of these; undefined when there is none. A key is worked out only where those before it have not decided. */
  best(pods: Iterable<PodView>): PodView | undefined;
}

export function createRanking(request: PlacementRequest, holders: HolderPlaces): Ranking {
  const { sizeBytes, requestsPerSecond: rate, prefersNew } = request;
  const preferred = Object.entries(request.preferredLabels);
  const isBusy = rate !== undefined && rate >= busyRate;
  const isCalm = rate !== undefined && rate < calmRate;
  const weightOf = rendezvousWeights(request.model);
  const key: Readonly<Record<Key, (pod: PodView) => number>> = {
    full: (pod) => (hasRoom(pod, sizeBytes) ? 0 : 1),
    labelsLacking: (pod) => preferred.reduce((lacking, [label, value]) => lacking + (hasLabel(pod, label, value) ? 0 : 1), 0),
    sameNode: ({ node }) => (node === undefined ? 0 : (holders.nodes.get(node) ?? 0)),
    sameZone: ({ zone }) => (zone === undefined ? 0 : (holders.zones.get(zone) ?? 0)),
    stranger: ({ podId }) => (isStranger(request, podId) ? 1 : 0),
    elder: ({ ageMs }) => (prefersNew === true ? magnitude((ageMs ?? 0) / 60_000) : 0),
    heat: (pod) => (isBusy ? magnitude(pod.requestsPerSecond) : 0),
    cacheAge: (pod) => (hasRoom(pod, sizeBytes) ? 0 : -magnitude(pod.oldestIdleMs / 1_000)),
    queue: ({ queued, loading }) => queued + loading,
    load: (pod) => (isCalm ? -magnitude(pod.requestsPerSecond) : magnitude(pod.requestsPerSecond)),
    spread: ({ podId }) => 2 ** 32 - weightOf(podId),
  };
  /** Keys that are 0 for every pod decide nothing. */
  const matters: Partial<Readonly<Record<Key, boolean>>> = {
    labelsLacking: preferred.length > 0,
    sameNode: holders.nodes.size > 0,
    sameZone: holders.zones.size > 0,
    elder: prefersNew === true,
    heat: isBusy,
    stranger: request.holders.size > 0,
  };
  const order = keyOrder.flatMap((name) => (matters[name] === false ? [] : [key[name]]));
  /** Of the best so far, as far as they were needed. */
  let known: number[] = [];

  function isBetter(pod: PodView, than: PodView): boolean {
    let at = 0;
    for (const keyOf of order) {
      const own = keyOf(pod);
      const difference = own - (known[at] ??= keyOf(than));
      if (difference > 0) return false;
      if (difference < 0) {
        // Up to here both are the same.
        known = known.slice(0, at);
        known.push(own);
        return true;
      }
      at += 1;
    }
    return pod.podId < than.podId;
  }

  return {
    keys: (pod) => ({
      full: key.full(pod),
      labelsLacking: key.labelsLacking(pod),
      sameNode: key.sameNode(pod),
      sameZone: key.sameZone(pod),
      stranger: key.stranger(pod),
      elder: key.elder(pod),
      heat: key.heat(pod),
      cacheAge: key.cacheAge(pod),
      queue: key.queue(pod),
      load: key.load(pod),
      spread: key.spread(pod),
    }),
    best(pods) {
      let best: PodView | undefined;
      known = [];
      for (const pod of pods) if (best === undefined || isBetter(pod, best)) best = pod;
      return best;
    },
  };
}

/** Requests per second from which a model is used much, and below which it is hardly used. */
const busyRate = 1;
const calmRate = 0.01;
/** So many pods may share models with a pod before others are strangers: few sets, and still enough to spread over. */
const fewestPartners = 4;

function isStranger({ holders, partners }: PlacementRequest, podId: string): boolean {
  return holders.size > 0 && partners !== undefined && partners.size >= fewestPartners && !partners.has(podId);
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

/** 0 below one, then one more with every doubling. */
function magnitude(amount: number): number {
  if (amount < 1) return 0;
  // The same as by the logarithm, in a tenth of the time.
  return amount < 2 ** 32 ? 32 - Math.clz32(amount) : Math.min(1 + Math.floor(Math.log2(amount)), 64);
}
