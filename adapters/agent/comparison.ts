// Owns the comparison of a holding with what the model server says it holds. Pure.
import { parseRevisionId, parseServerName } from "#core/model.ts";
import type { HeldModel } from "../drivers/driver.ts";
import type { CopyView } from "./copies.ts";
import type { HeldCopy } from "./events.ts";

export interface Differences {
  /** Ready here, and not there. */
  readonly missing: readonly CopyView[];
  /** There, and not even on its way here. */
  readonly strange: readonly HeldModel[];
}

/** Speaks only of what was one way before and after the list was read: what changed meanwhile is told by itself. */
export function compareHolding(before: readonly CopyView[], after: readonly CopyView[], held: readonly HeldModel[]): Differences {
  const [was, is] = [byServerName(before), byServerName(after)];
  const there = new Set(held.map((model) => `${model.serverName} ${model.revision}`));
  const missing = [...was].flatMap(([name, view]) => {
    const stays = view.state === "ready" && is.get(name)?.state === "ready";
    return stays && !there.has(`${name} ${view.revision}`) ? [view] : [];
  });
  const strange = held.filter(({ serverName }) => !was.has(serverName) && !is.has(serverName));
  return { missing, strange };
}

/** Undefined: no adapter called it so. */
export function parseHeld({ serverName, revision, sizeBytes }: HeldModel): HeldCopy | undefined {
  const name = parseServerName(serverName);
  const id = parseRevisionId(revision);
  if (name.kind !== "ok" || id.kind !== "ok") return undefined;
  return { model: name.name, revision: id.id, slot: name.slot, serverName, sizeBytes };
}

export function serverNameOf(view: CopyView): string {
  return view.slot === 0 ? view.model : `${view.model}~${view.slot}`;
}

/** What is in the model server, or on its way in or out. */
function byServerName(views: readonly CopyView[]): ReadonlyMap<string, CopyView> {
  const there = views.filter(({ state }) => state === "loading" || state === "ready" || state === "leaving");
  return new Map(there.map((view) => [serverNameOf(view), view]));
}
