// Owns the placement sets in use and what each needs in Envoy: two clusters, a route configuration for each slot, and an
// entry scope for each slot, which keeps the route configuration in Envoy and takes in requests that have waited.
// Life of a set: used -> idle (seen without a model by one sweep) -> leaving (entries taken back by the next) -> gone
// (clusters and routes dropped when Envoy is done with the entries). A model that comes back makes it used again.
import { ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { RouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/route_pb.ts";
import { buildSetCluster } from "./resources/cluster.ts";
import { buildRoutes } from "./resources/routes.ts";
import { buildSet, clusterName, entryName, type PlacementSet, type PodAddress, routesName, type Wire } from "./resources/set.ts";
import type { OnChange, ResourceStore } from "./store.ts";
import { typeUrls } from "./typeurls.ts";

export interface SetEntry {
  readonly set: PlacementSet;
  /** The models whose scope names this set. */
  readonly models: Set<string>;
  readonly slots: Set<number>;
  phase: "used" | "idle" | "leaving";
}

export interface SetBook {
  /** The set of these pods with this slot's routes, made when it is new. */
  open(pods: readonly PodAddress[], slot: number): SetEntry;
  /** Sets that hold this pod at this address. */
  ofPod(podId: string): readonly SetEntry[];
  /** The route configuration that an entry scope names. */
  entryTarget(name: string): string | undefined;
  /** The set that an entry scope leads to. */
  entrySet(name: string): PlacementSet | undefined;
  /** Names of all entry scopes. */
  entryNames(): Iterable<string>;
  /** `keep`: sets that stay without a model. `isGone`: Envoy has acknowledged that a scope is no more. */
  sweep(keep: (set: PlacementSet) => boolean, isGone: (scope: string) => boolean): void;
  readonly size: number;
}

export const wires: readonly Wire[] = ["rest", "grpc"];

export function createSetBook(clusters: ResourceStore, routes: ResourceStore, onChange: OnChange): SetBook {
  const entries = new Map<string, SetEntry>();
  const byPod = new Map<string, Set<SetEntry>>();
  /** Entry scope -> its route configuration's name and its set. */
  const scopes = new Map<string, { readonly routes: string; readonly set: PlacementSet }>();

  function create(set: PlacementSet): SetEntry {
    const entry: SetEntry = { set, models: new Set(), slots: new Set(), phase: "used" };
    entries.set(set.id, entry);
    for (const { podId } of set.pods) byPod.set(podId, (byPod.get(podId) ?? new Set()).add(entry));
    for (const wire of wires) clusters.put(ClusterSchema, clusterName(set, wire), buildSetCluster(set, wire));
    return entry;
  }

  function openSlot({ set, slots }: SetEntry, slot: number): void {
    const name = routesName(set, slot);
    if (!slots.has(slot)) routes.put(RouteConfigurationSchema, name, buildRoutes(set, slot));
    slots.add(slot);
    const scope = entryName(set, slot);
    if (scopes.has(scope)) return;
    scopes.set(scope, { routes: name, set });
    onChange(typeUrls.scope, [scope]);
  }

  function leave(entry: SetEntry): void {
    entry.phase = "leaving";
    const names = [...entry.slots].map((slot) => entryName(entry.set, slot));
    for (const name of names) scopes.delete(name);
    onChange(typeUrls.scope, names);
  }

  function drop({ set, slots }: SetEntry): void {
    entries.delete(set.id);
    for (const { podId } of set.pods) {
      const of = byPod.get(podId);
      for (const entry of of ?? []) if (entry.set === set) of?.delete(entry);
      if (of?.size === 0) byPod.delete(podId);
    }
    for (const slot of slots) routes.drop(routesName(set, slot));
    for (const wire of wires) clusters.drop(clusterName(set, wire));
  }

  return {
    open(pods, slot) {
      const set = buildSet(pods);
      const entry = entries.get(set.id) ?? create(set);
      entry.phase = "used";
      for (const each of new Set([...entry.slots, slot])) openSlot(entry, each);
      return entry;
    },
    ofPod: (podId) => [...(byPod.get(podId) ?? [])],
    entryTarget: (name) => scopes.get(name)?.routes,
    entrySet: (name) => scopes.get(name)?.set,
    entryNames: () => scopes.keys(),
    sweep(keep, isGone) {
      // Sets number the combinations of pods in use, not models.
      for (const entry of Array.from(entries.values())) {
        if (entry.models.size > 0 || keep(entry.set)) entry.phase = "used";
        else if (entry.phase === "used") entry.phase = "idle";
        else if (entry.phase === "idle") leave(entry);
        else if ([...entry.slots].every((slot) => isGone(entryName(entry.set, slot)))) drop(entry);
      }
    },
    get size() {
      return entries.size;
    },
  };
}
