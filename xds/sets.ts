// Owns the placement sets and plans in use and what each needs in Envoy: of a set two clusters; of a plan its route
// configuration, and an entry scope, by which Envoy asks for that before any model's scope names it, and keeps it. Through the
// entry of a set and slot come requests that have waited too. A plain plan belongs to its set; a mixed one (split, mirror,
// more patience) holds on to all its sets.
// Life of a set: used -> idle (seen without a model by one sweep) -> leaving (entries taken back by the next) -> gone
// (clusters and routes dropped when Envoy is done with the entries). A model that comes back makes it used again. A mixed
// plan stays without a model as long as its patience: so long a request that took it may be silent before Envoy looks for
// the cluster again, to send a hedge there, and fails the request when there is none. Then it leaves as a set does.
import { patienceMs } from "#core/patience.ts";
import { ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { RouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/route_pb.ts";
import { buildSetCluster } from "./resources/cluster.ts";
import { buildRoutes, type Edge } from "./resources/routes.ts";
import {
  buildSet,
  clusterName,
  entryName,
  entryOfRoutes,
  type Leg,
  type PlacementSet,
  type Plan,
  type PodAddress,
  planLegs,
  planName,
  routesName,
  setIdOf,
  type Wire,
} from "./resources/set.ts";
import type { OnChange, ResourceStore } from "./store.ts";
import { typeUrls } from "./typeurls.ts";

/** A plan in use. */
export interface PlanEntry {
  readonly plan: Plan;
  /** The route configuration's name. */
  readonly routes: string;
  /** The models whose scope names it. */
  readonly models: Set<string>;
}

export interface SetBook {
  /** The set of these pods with the routes of this slot, made when it is new. */
  openLeg(pods: readonly PodAddress[], slot: number): Leg;
  /** The plan, whose legs were opened here just now. */
  openPlan(plan: Plan): PlanEntry;
  /** Plans with a leg that has this pod. */
  plansOfPod(podId: string): readonly PlanEntry[];
  /** The route configuration that an entry scope names. */
  entryTarget(name: string): string | undefined;
  /** The set that an entry scope leads to. */
  entrySet(name: string): PlacementSet | undefined;
  /** The pods of the set that this cluster is of; undefined when no such set is in use. */
  podsOf(cluster: string): readonly PodAddress[] | undefined;
  /** Names of all entry scopes. */
  entryNames(): Iterable<string>;
  /** Builds all routes anew. */
  setEdge(edge: Edge): void;
  /** `keep`: sets that stay without a model. `isGone`: Envoy has acknowledged that a scope is no more. */
  sweep(keep: (set: PlacementSet) => boolean, isGone: (scope: string) => boolean): void;
  readonly size: number;
}

/** Between two sweeps, at least. */
export const sweepMs = 15_000;

interface SetEntry {
  readonly set: PlacementSet;
  readonly slots: Map<number, PlanEntry>;
  /** Mixed plans with a leg here. */
  readonly mixed: Set<MixedEntry>;
  phase: "used" | "idle" | "leaving";
}

interface MixedEntry extends PlanEntry {
  readonly sets: readonly SetEntry[];
  /** So many sweeps in a row have seen it without a model; undefined: it is leaving. */
  idleSweeps: number | undefined;
}

export const wires: readonly Wire[] = ["rest", "grpc"];

export function createSetBook(clusters: ResourceStore, routes: ResourceStore, onChange: OnChange, atFirst: Edge): SetBook {
  let edge = atFirst;
  const entries = new Map<string, SetEntry>();
  const mixes = new Map<string, MixedEntry>();
  const byPod = new Map<string, Set<SetEntry>>();
  /** Entry scope -> its route configuration's name, and its set when the plan is plain. */
  const scopes = new Map<string, { readonly routes: string; readonly set?: PlacementSet }>();

  function create(set: PlacementSet): SetEntry {
    const entry: SetEntry = { set, slots: new Map(), mixed: new Set(), phase: "used" };
    entries.set(set.id, entry);
    for (const { podId } of set.pods) byPod.set(podId, (byPod.get(podId) ?? new Set()).add(entry));
    for (const wire of wires) clusters.put(ClusterSchema, clusterName(set, wire), buildSetCluster(set, wire));
    return entry;
  }

  function openSlot({ set, slots }: SetEntry, slot: number): void {
    const name = routesName(set, slot);
    if (!slots.has(slot)) {
      const plan: Plan = { active: { set, slot }, split: [], mirror: undefined, patience: 0 };
      routes.put(RouteConfigurationSchema, name, buildRoutes(plan, edge));
      slots.set(slot, { plan, routes: name, models: new Set() });
    }
    enter({ routes: name, set });
  }

  function enter(of: { readonly routes: string; readonly set?: PlacementSet }): void {
    const scope = entryOfRoutes(of.routes);
    if (scopes.has(scope)) return;
    scopes.set(scope, of);
    onChange(typeUrls.scope, [scope]);
  }

  function createMix(name: string, plan: Plan): MixedEntry {
    const sets = [...new Set(planLegs(plan).map(({ set }) => setEntryOf(set)))];
    const mixed: MixedEntry = { plan, routes: name, models: new Set(), sets, idleSweeps: 0 };
    mixes.set(name, mixed);
    for (const { mixed: of } of sets) of.add(mixed);
    routes.put(RouteConfigurationSchema, name, buildRoutes(plan, edge));
    return mixed;
  }

  function setEntryOf(set: PlacementSet): SetEntry {
    const entry = entries.get(set.id);
    if (entry === undefined) throw new RangeError("a plan's legs are opened before the plan");
    return entry;
  }

  function dropMix(mixed: MixedEntry): void {
    mixes.delete(mixed.routes);
    for (const { mixed: of } of mixed.sets) of.delete(mixed);
    routes.drop(mixed.routes);
  }

  function leave(entry: SetEntry): void {
    entry.phase = "leaving";
    takeBack([...entry.slots.keys()].map((slot) => entryName(entry.set, slot)));
  }

  function takeBack(names: readonly string[]): void {
    for (const name of names) scopes.delete(name);
    onChange(typeUrls.scope, names);
  }

  function sweepMix(mixed: MixedEntry, isGone: (scope: string) => boolean): void {
    if (mixed.models.size > 0) mixed.idleSweeps = 0;
    else if (mixed.idleSweeps === undefined) {
      if (isGone(entryOfRoutes(mixed.routes))) dropMix(mixed);
    } else if (mixed.idleSweeps * sweepMs >= patienceMs[mixed.plan.patience]) {
      mixed.idleSweeps = undefined;
      takeBack([entryOfRoutes(mixed.routes)]);
    } else mixed.idleSweeps += 1;
  }

  function drop({ set, slots }: SetEntry): void {
    entries.delete(set.id);
    for (const { podId } of set.pods) {
      const of = byPod.get(podId);
      for (const entry of of ?? []) if (entry.set === set) of?.delete(entry);
      if (of?.size === 0) byPod.delete(podId);
    }
    for (const slot of slots.keys()) routes.drop(routesName(set, slot));
    for (const wire of wires) clusters.drop(clusterName(set, wire));
  }

  function isUsed({ mixed, slots }: SetEntry): boolean {
    return mixed.size > 0 || [...slots.values()].some(({ models }) => models.size > 0);
  }

  return {
    openLeg(pods, slot) {
      const set = buildSet(pods);
      const entry = entries.get(set.id) ?? create(set);
      entry.phase = "used";
      for (const each of new Set([...entry.slots.keys(), slot])) openSlot(entry, each);
      return { set: entry.set, slot };
    },
    openPlan(plan) {
      const name = planName(plan);
      const plain = setEntryOf(plan.active.set).slots.get(plan.active.slot);
      if (plain?.routes === name) return plain;
      const mixed = mixes.get(name) ?? createMix(name, plan);
      mixed.idleSweeps = 0;
      enter({ routes: name });
      return mixed;
    },
    plansOfPod: (podId) => [
      ...new Set([...(byPod.get(podId) ?? [])].flatMap(({ slots, mixed }) => [...slots.values(), ...mixed])),
    ],
    entryTarget: (name) => scopes.get(name)?.routes,
    entrySet: (name) => scopes.get(name)?.set,
    podsOf: (cluster) => entries.get(setIdOf(cluster) ?? "")?.set.pods,
    entryNames: () => scopes.keys(),
    setEdge(next) {
      edge = next;
      for (const { slots } of entries.values())
        for (const { plan, routes: name } of slots.values()) routes.put(RouteConfigurationSchema, name, buildRoutes(plan, edge));
      for (const { plan, routes: name } of mixes.values()) routes.put(RouteConfigurationSchema, name, buildRoutes(plan, edge));
    },
    sweep(keep, isGone) {
      // Sets and plans number the combinations of pods in use, not models.
      for (const mixed of Array.from(mixes.values())) sweepMix(mixed, isGone);
      for (const entry of Array.from(entries.values())) {
        if (isUsed(entry) || keep(entry.set)) entry.phase = "used";
        else if (entry.phase === "used") entry.phase = "idle";
        else if (entry.phase === "idle") leave(entry);
        else if ([...entry.slots.keys()].every((slot) => isGone(entryName(entry.set, slot)))) drop(entry);
      }
    },
    get size() {
      return entries.size;
    },
  };
}
