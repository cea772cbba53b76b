// Owns the agreement between the fleet and Envoy: which pods a model is routed to, and whether Envoy knows it yet.
// Invariants: only ready copies of the active revision, on pods that are up, are routed to; a waiter is answered when
// Envoy has acknowledged exactly what the table wants at that moment, or when its signal says to stop waiting.
import { activeRevision, type Model } from "#core/model.ts";
import type { ResourceRef, RouteTable } from "#xds/main.ts";
import type { Fleet } from "./fleet.ts";

export interface Routes {
  /** Brings the table up to what the fleet holds of the model. */
  refresh(model: string): void;
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
  /** Envoy has acknowledged this resource at this version (undefined: that it is gone). */
  readonly isAcked: (ref: ResourceRef) => boolean;
}

export function createRoutes({ fleet, table, findModel, isAcked }: RoutesParts): Routes {
  const waiting = new Map<string, Set<() => void>>();

  function isSettled(name: string): boolean {
    return table.wanted(name).every(isAcked);
  }

  function answer(model: string): void {
    const waiters = waiting.get(model);
    if (waiters === undefined || !isSettled(model)) return;
    waiting.delete(model);
    for (const waiter of waiters) waiter();
  }

  return {
    refresh(name) {
      const model = findModel(name);
      if (model === undefined) return table.setModel(name, undefined);
      const { id, slot } = activeRevision(model);
      const podIds: string[] = [];
      for (const { podId, copy } of fleet.holders(name)) {
        if (copy.revision === id && copy.slot === slot && copy.state === "ready") podIds.push(podId);
      }
      return table.setModel(name, podIds.length === 0 ? undefined : { slot, podIds });
    },
    entry: (podId, slot) => table.entry(podId, slot),
    isRouted: (model) => table.has(model),
    isSettled,
    async whenSettled(model, signal) {
      if (isSettled(model)) return;
      signal.throwIfAborted();
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const waiters = waiting.get(model) ?? new Set();
      waiting.set(model, waiters.add(resolve));
      const stop = (): void => {
        waiters.delete(resolve);
        if (waiters.size === 0 && waiting.get(model) === waiters) waiting.delete(model);
        reject(signal.reason);
      };
      signal.addEventListener("abort", stop, { once: true });
      try {
        await promise;
      } finally {
        signal.removeEventListener("abort", stop);
      }
    },
    onAcked(names) {
      // A cluster's or a route configuration's name is not what is waited for: then all that wait are asked; few wait at once.
      const models = names.length < waiting.size && names.every((name) => waiting.has(name)) ? names : [...waiting.keys()];
      for (const model of models) answer(model);
    },
  };
}
