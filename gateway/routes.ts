// Owns the agreement between the fleet and Envoy: which pods a model is routed to, and whether Envoy knows it yet.
// Invariants: only ready copies, on pods that are up, are routed to: those of the active revision, and those of revisions
// that have a share or mirror while the active one is routed to as well; a waiter is answered when
// Envoy has acknowledged exactly what the table wants at that moment, or when its signal says to stop waiting.
import { activeRevision, findRevision, type Model, type Revision, type Share } from "#core/model.ts";
import type { Patience } from "#core/patience.ts";
import { orAborted } from "#platform/clock.ts";
import type { ResourceRef, RouteShare, RouteTable } from "#xds/main.ts";
import type { Fleet } from "./fleet.ts";

export interface Routes {
  /** Brings the table up to what the fleet holds of the model. */
  refresh(model: string): void;
  /** Revisions that should get a share or copies of the model's requests, and that no pod holds ready. */
  lacking(model: string): readonly Revision[];
  /** The table has a route for the model. */
  isRouted(model: string): boolean;
  /** Does Envoy treat the model, or the entry of this name, as the table does, now? */
  isSettled(name: string): boolean;
  /** Resolves when it does; rejects with the signal's reason. */
  whenSettled(name: string, signal: AbortSignal): Promise<void>;
  /** The scope key by which a request that has waited reaches the pod. */
  entry(podId: string, slot: number): string | undefined;
  /** To be called with the names of what Envoy has acknowledged, of whatever type. */
  onAcked(names: readonly string[]): void;
}

export interface RoutesParts {
  readonly fleet: Fleet;
  readonly table: RouteTable;
  readonly findModel: (name: string) => Model | undefined;
  readonly patienceOf: (model: string) => Patience;
  /** Requests for the revision are refused for now, though pods may hold it; none is when absent. */
  readonly isKeptOff?: (model: string, revision: string) => boolean;
  /** Envoy has acknowledged this resource at this version (undefined: that it is gone). */
  readonly isAcked: (ref: ResourceRef) => boolean;
}

export function createRoutes({ fleet, table, findModel, patienceOf, isKeptOff, isAcked }: RoutesParts): Routes {
  const waiting = new Map<string, Set<() => void>>();
  /** Few models have shares, fewer lack one. */
  const lacking = new Map<string, readonly Revision[]>();

  function isSettled(name: string): boolean {
    return table.wanted(name).every(isAcked);
  }

  function answer(model: string): void {
    const waiters = waiting.get(model);
    if (waiters === undefined || !isSettled(model)) return;
    waiting.delete(model);
    for (const waiter of waiters) waiter();
  }

  /** Revision -> its slot and the pods that hold it ready. */
  function readyPods(model: Model): ReadonlyMap<string, { readonly slot: number; readonly podIds: string[] }> {
    const held = new Map<string, { readonly slot: number; readonly podIds: string[] }>();
    for (const { podId, copy } of fleet.holders(model.name)) {
      if (copy.state !== "ready" || findRevision(model, copy.revision)?.slot !== copy.slot) continue;
      const leg = held.get(copy.revision) ?? { slot: copy.slot, podIds: [] };
      leg.podIds.push(podId);
      held.set(copy.revision, leg);
    }
    return held;
  }

  return {
    refresh(name) {
      const model = findModel(name);
      if (model === undefined) {
        lacking.delete(name);
        return table.setModel(name, undefined);
      }
      const held = readyPods(model);
      const { id, slot } = activeRevision(model);
      const podIds = isKeptOff?.(name, id) === true ? [] : (held.get(id)?.podIds ?? []);
      const shares = [...(model.split ?? []), ...(model.mirror === undefined ? [] : [model.mirror])];
      const missing = shares.flatMap(({ revision }) => (held.has(revision) ? [] : (findRevision(model, revision) ?? [])));
      if (podIds.length > 0 && missing.length > 0) lacking.set(name, missing);
      else lacking.delete(name);
      const share = ({ revision, percent }: Share): readonly RouteShare[] => {
        const leg = held.get(revision);
        return leg === undefined ? [] : [{ ...leg, percent }];
      };
      const split = model.split?.flatMap(share) ?? [];
      const mirror = model.mirror === undefined ? undefined : share(model.mirror)[0];
      return table.setModel(name, podIds.length === 0 ? undefined : { slot, podIds, split, mirror, patience: patienceOf(name) });
    },
    entry: (podId, slot) => table.entry(podId, slot),
    lacking: (model) => lacking.get(model) ?? [],
    isRouted: (model) => table.has(model),
    isSettled,
    async whenSettled(model, signal) {
      if (isSettled(model)) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const waiters = waiting.get(model) ?? new Set();
      waiting.set(model, waiters.add(resolve));
      try {
        await orAborted(promise, signal);
      } finally {
        waiters.delete(resolve);
        if (waiters.size === 0 && waiting.get(model) === waiters) waiting.delete(model);
      }
    },
    onAcked(names) {
      // A cluster's or a route configuration's name is not what is waited for: then all that wait are asked; few wait at once.
      const models = names.length < waiting.size && names.every((name) => waiting.has(name)) ? names : [...waiting.keys()];
      for (const model of models) answer(model);
    },
  };
}
