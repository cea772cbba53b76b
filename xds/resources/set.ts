// Owns what a placement set is to Envoy: the exact pods that hold a revision ready, and the names made from them.
// Invariant: a name says everything about its content, so a gateway that starts anew gives the same names and Envoy
// keeps what it has.
import { createHash } from "node:crypto";
import type { Patience } from "#core/patience.ts";
import { lastPrefix } from "#envoy/names.ts";

/** Which protocol of a pod's model server. */
export type Wire = "rest" | "grpc";

export interface SocketAddress {
  readonly host: string;
  readonly port: number;
}

/** Where Envoy reaches one pod's model server. */
export interface PodAddress {
  readonly podId: string;
  readonly rest: SocketAddress;
  readonly grpc: SocketAddress;
  /** Of a stream of requests its model server takes the header mm-model-id for what all its messages mean; else each counts. */
  readonly streamsByHeader?: boolean | undefined;
  /** Its model server speaks V2 over gRPC alone: requests over REST are translated on their way to it. */
  readonly restByGrpc?: boolean | undefined;
  /**
   * How often its model server was lost. What one leaves behind, such as the processes of its backends, may hold its connections
   * open and answer nothing: those to another one are none of them, so their clusters have other names.
   */
  readonly losses?: number | undefined;
  /** A model that is not there is answered with a status alone, and not marked as the built-in model server does. */
  readonly absenceByStatus?: boolean | undefined;
  /** Methods of its model server whose messages must name the model, and where: `package.Service/Method` to `1.1`. */
  readonly idInjections?: ReadonlyMap<string, string>;
}

export interface PlacementSet {
  /** Short hash over the pods, their addresses and the lives of their model servers. */
  readonly id: string;
  /** In order of their ids, without repeats, at least one. */
  readonly pods: readonly PodAddress[];
}

export function buildSet(pods: readonly PodAddress[]): PlacementSet {
  const [only] = pods;
  if (only === undefined || pods.length > 1) return hashSet(pods);
  // Each miss asks for the set of its pod alone.
  const known = alone.get(only) ?? hashSet(pods);
  alone.set(only, known);
  return known;
}

const alone = new WeakMap<PodAddress, PlacementSet>();

function hashSet(pods: Iterable<PodAddress>): PlacementSet {
  const sorted = [...pods].sort((a, b) => (a.podId < b.podId ? -1 : 1));
  const hash = createHash("sha256");
  for (const { podId, rest, grpc, losses = 0, ...more } of sorted) {
    const { streamsByHeader = false, absenceByStatus = false, restByGrpc = false, idInjections = new Map() } = more;
    const facts = [
      streamsByHeader,
      absenceByStatus,
      ...idInjections,
      ...(losses === 0 ? [] : [losses]),
      ...(restByGrpc ? ["by-grpc"] : []),
    ];
    hash.update(JSON.stringify([podId, rest.host, rest.port, grpc.host, grpc.port, ...facts]));
  }
  return { id: hash.digest("hex").slice(0, 12), pods: sorted };
}

/** The cluster of a set. */
export function clusterName(set: PlacementSet, wire: Wire): string {
  return `set-${set.id}-${wire}`;
}

/** The set that a cluster's name is made from; undefined when it is another cluster. */
export function setIdOf(cluster: string): string | undefined {
  return /^set-([0-9a-f]+)-(?:rest|grpc)$/.exec(cluster)?.[1];
}

/** The cluster of a pod alone, where the gateway sends what it reroutes. `tries`: how many there have been with this one. */
export function podClusterName(pod: PodAddress, wire: Wire, tries: 2 | 3): string {
  return `${tries === 2 ? podPrefix : lastPrefix}${buildSet([pod]).id}-${wire}`;
}

const podPrefix = "pod-";

/** That of the same pods as a set: each pod has one for itself. */
export function setClusterOf(cluster: string): string {
  const prefix = [podPrefix, lastPrefix].find((each) => cluster.startsWith(each));
  return prefix === undefined ? cluster : `set-${cluster.slice(prefix.length)}`;
}

/** Whether a request that comes from this cluster was rerouted to it. */
export function isPodCluster(cluster: string): boolean {
  return cluster.startsWith(podPrefix) || cluster.startsWith(lastPrefix);
}

/** Where requests go: the pods that hold a revision ready, and the slot that names it there. */
export interface Leg {
  readonly set: PlacementSet;
  readonly slot: number;
}

/** A leg that takes a part of the requests. */
export interface LegShare extends Leg {
  /** 1 to 100. */
  readonly percent: number;
}

/** What a route configuration does. Models that go the same way share one, whatever they are called. */
export interface Plan {
  /** Takes what no share takes. */
  readonly active: Leg;
  /** In order of their routes' names, 100 percent in all at most. */
  readonly split: readonly LegShare[];
  /** Gets copies of so many requests. */
  readonly mirror: LegShare | undefined;
  /** How long a pod may say nothing. */
  readonly patience: Patience;
}

/** A plan of one leg and the shortest patience: the one that belongs to its set and slot. */
export function isPlain({ split, mirror, patience }: Omit<Plan, "active">): boolean {
  return split.length === 0 && mirror === undefined && patience === 0;
}

/** The route configuration that all revisions in this slot and set share. */
export function routesName(set: PlacementSet, slot: number): string {
  return `set-${set.id}-s${slot}`;
}

/** The route configuration that all models with this plan share. */
export function planName(plan: Plan): string {
  const { active, split, mirror, patience } = plan;
  if (isPlain(plan)) return routesName(active.set, active.slot);
  const share = ({ set, slot, percent }: LegShare): string => `${routesName(set, slot)}:${percent}`;
  const parts = [routesName(active.set, active.slot), split.map(share), mirror === undefined ? null : share(mirror), patience];
  return `mix-${createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16)}`;
}

export function planLegs({ active, split, mirror }: Plan): readonly Leg[] {
  return [active, ...split, ...(mirror === undefined ? [] : [mirror])];
}

/**
 * The name and key of a scope that leads to a set's routes without naming a model: the entry of a request that has waited.
 * It is in Envoy as long as the set, so such a request needs no route of its own to be pushed first. No client can use
 * it: no model's name holds a `~`, and over REST its routes want a header that is taken away at the edge.
 */
export function entryName(set: PlacementSet, slot: number): string {
  return entryOfRoutes(routesName(set, slot));
}

/** The scope that makes Envoy ask for a route configuration, and keep it, when no model's scope names it. */
export function entryOfRoutes(routes: string): string {
  return `~${routes}`;
}
