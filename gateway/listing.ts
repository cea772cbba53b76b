// Owns the lists of models that clients ask for. A list looks at every registered model, which nothing else on this way
// does, and whoever may call may ask for it as often as for an inference. So lists are made from memory, one at a time, in
// slices between which other work goes on, and take a fifth of the gateway's time at most; who waits for the same one gets
// the same one; and what was decided about a caller and a model is kept until one of them changes.
import { type Clock, sleep } from "#platform/clock.ts";
import type { Index, IndexEntry, ListIndex } from "./about.ts";
import type { Routes } from "./routes.ts";

export interface Listing {
  readonly list: ListIndex;
  /** A model was registered, changed or unregistered. */
  onModel(name: string): void;
  /** Anybody's access to anything may be another. */
  onRules(): void;
}

export interface ListingParts {
  /** Of all registered models. */
  readonly count: () => number;
  readonly names: () => Iterable<string>;
  readonly routes: Pick<Routes, "isRouted">;
  readonly mayCall: (principal: string | undefined, name: string) => boolean;
  /** False where everybody may call everything. */
  readonly isGuarded: boolean;
  readonly clock: Pick<Clock, "monotonicMs">;
}

/** One answer holds so many: the management API lists any number in pages. */
const limit = 50_000;
/** Different lists that wait for their turn, and callers that wait for one of them. */
const maxWaiting = 32;
const maxSharing = 64;
/** Callers whose decisions are kept: at most so many times `limit` names. */
const maxCallers = 8;
const sliceMs = 4;
const namesBetweenLooks = 64;
/** After a list that took so long, the next one begins no sooner than so many times that later. */
const restFactor = 4;

export function createListing({ count, names, routes, mayCall, isGuarded, clock }: ListingParts): Listing {
  let sorted: readonly string[] | undefined;
  // By caller; insertion order is the order of use.
  const decided = new Map<string, Map<string, boolean>>();
  const waiting = new Map<string, { readonly made: Promise<Index>; sharing: number }>();
  let last: Promise<unknown> = Promise.resolve();
  let restUntilMs = 0;

  function decisionsOf(caller: string): Map<string, boolean> {
    const kept = decided.get(caller) ?? new Map<string, boolean>();
    decided.delete(caller);
    decided.set(caller, kept);
    if (decided.size > maxCallers) for (const oldest of decided.keys().take(1)) decided.delete(oldest);
    return kept;
  }

  async function make(principal: string | undefined, which: "all" | "ready"): Promise<Index> {
    if (count() > limit) return { kind: "too-many", limit };
    sorted ??= [...names()].sort();
    const decisions = isGuarded ? decisionsOf(principal ?? "") : undefined;
    const entries: IndexEntry[] = [];
    let tookMs = 0;
    let sinceMs = clock.monotonicMs();
    let looked = 0;
    for (const name of sorted) {
      looked += 1;
      if (looked % namesBetweenLooks === 0 && clock.monotonicMs() - sinceMs >= sliceMs) {
        tookMs += clock.monotonicMs() - sinceMs;
        await new Promise(setImmediate);
        sinceMs = clock.monotonicMs();
      }
      if (decisions !== undefined) {
        const may = decisions.get(name) ?? mayCall(principal, name);
        decisions.set(name, may);
        if (!may) continue;
      }
      const warm = routes.isRouted(name);
      if (which === "ready" && !warm) continue;
      entries.push({ name, state: warm ? "READY" : "UNAVAILABLE", reason: warm ? "" : "cold: the first request loads it" });
    }
    const nowMs = clock.monotonicMs();
    tookMs += nowMs - sinceMs;
    restUntilMs = nowMs + restFactor * tookMs;
    return { kind: "ok", entries };
  }

  return {
    async list(principal, which) {
      const key = `${which} ${principal ?? ""}`;
      const same = waiting.get(key);
      if (same !== undefined && same.sharing < maxSharing) {
        same.sharing += 1;
        return await same.made;
      }
      if (same !== undefined || waiting.size >= maxWaiting) return { kind: "busy" };
      const made = last.then(async () => {
        await sleep(Math.max(0, restUntilMs - clock.monotonicMs()));
        // Who asks from now on sees what has changed by now, and does not get this one.
        waiting.delete(key);
        return await make(principal, which);
      });
      waiting.set(key, { made, sharing: 1 });
      last = made.catch(() => undefined);
      return await made;
    },
    onModel(name) {
      sorted = undefined;
      for (const decisions of decided.values()) decisions.delete(name);
    },
    onRules: () => decided.clear(),
  };
}
