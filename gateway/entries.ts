// Owns by which pod a request goes on when several hold its model ready: one after the other.
import type { Model, Revision } from "#core/model.ts";
import type { Fleet } from "./fleet.ts";
import type { Routes } from "./routes.ts";

/** Undefined: there is none that Envoy knows of. */
export type ReadyEntry = (model: Model, revision: Revision) => string | undefined;

export function createReadyEntry(fleet: Fleet, routes: Pick<Routes, "entry" | "isSettled">): ReadyEntry {
  let turn = 0;
  return (model, revision) => {
    const ready: string[] = [];
    for (const { podId, copy } of fleet.holders(model.name)) {
      if (copy.revision !== revision.id || copy.state !== "ready" || fleet.pod(podId)?.reachable !== true) continue;
      const entry = routes.entry(podId, revision.slot);
      if (entry !== undefined && routes.isSettled(entry)) ready.push(entry);
    }
    turn += 1;
    return ready[turn % ready.length];
  };
}
