// Owns that pods with room are filled ahead of demand: with models of this home that were used lately and lost their last
// copy, by an eviction or with their pod. core/filling.ts decides what and how much.
// Invariants: work is done for copies that change and, while something is lost, twice a second for the few loads under way;
// memory is bounded; each model is tried once for each time that it is lost.
import { countFillable, createLostModels, defaultFillingPolicy, type FillingPolicy } from "#core/filling.ts";
import type { Model } from "#core/model.ts";
import type { Clock } from "#platform/clock.ts";
import type { Copies } from "./copies.ts";
import type { CopyChange, Fleet } from "./fleet.ts";

export interface Filling {
  /** Models of this home that were used since the last call. */
  onUsed(models: Iterable<string>): void;
  onCopies(changes: readonly CopyChange[]): void;
  /** Twice a second. */
  tick(): void;
}

export interface FillingParts {
  readonly fleet: Pick<Fleet, "holders" | "views">;
  readonly copies: Pick<Copies, "want" | "unwant" | "state">;
  /** Whether requests wait for it: then it is loaded anyway. */
  readonly isFlying: (model: string, revision: string) => boolean;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly findModel: (name: string) => Model | undefined;
  readonly isHome: (model: string) => boolean;
  readonly policy?: FillingPolicy;
}

const by = "filling";
const maxKnown = 50_000;
/** Of a use the gateway hears by Envoy's access log and once a second: so much later than of the pod's end at most. */
const newsMs = 10_000;
const patienceMs = 120_000;

export function createFilling(parts: FillingParts): Filling {
  const { fleet, copies, clock, policy = defaultFillingPolicy } = parts;
  /** When each was used last, in that order. */
  const used = new Map<string, number>();
  const lost = createLostModels();
  /** Which lost their last copy of late, and when, in that order. */
  const lately = new Map<string, number>();
  const underWay = new Map<string, { readonly revision: string; readonly sinceMs: number }>();

  function hasCopy(model: string): boolean {
    for (const { copy } of fleet.holders(model)) if (copy.state !== "failed" && copy.state !== "leaving") return true;
    return false;
  }

  function trim(): void {
    const sinceMs = clock.monotonicMs() - newsMs;
    for (const [model, atMs] of lately) {
      if (atMs >= sinceMs && lately.size <= maxKnown) return;
      lately.delete(model);
    }
  }

  function settle(nowMs: number): void {
    for (const [model, { revision, sinceMs }] of underWay) {
      const { ready, failure } = copies.state(model, revision);
      if (ready === 0 && failure === undefined && nowMs - sinceMs < patienceMs) continue;
      underWay.delete(model);
      copies.unwant(model, revision, by);
    }
  }

  function begin(nowMs: number): void {
    if (lost.size === 0) return;
    for (let count = countFillable(fleet.views(), policy) - underWay.size; count > 0; ) {
      const name = lost.take(nowMs - policy.maxIdleMs);
      if (name === undefined) return;
      const model = parts.findModel(name);
      if (model === undefined || !parts.isHome(name) || hasCopy(name) || parts.isFlying(name, model.active)) continue;
      count -= 1;
      underWay.set(name, { revision: model.active, sinceMs: nowMs });
      copies.want(name, model.active, 1, "proactive", { by, spareRoomOnly: true });
    }
  }

  return {
    onUsed(models) {
      const nowMs = clock.monotonicMs();
      for (const model of models) {
        used.delete(model);
        used.set(model, nowMs);
        // It was used before, or it would be loaded by now.
        if (lately.delete(model) && !hasCopy(model) && !underWay.has(model)) lost.add(model, nowMs);
      }
      for (const model of used.keys()) {
        if (used.size <= maxKnown) return;
        used.delete(model);
        lost.remove(model);
      }
    },
    onCopies(changes) {
      let settled = false;
      for (const { model, state } of changes) {
        if (underWay.has(model)) settled ||= state === "ready" || state === "failed" || state === "gone";
        else if (state === "queued" || state === "loading" || state === "ready") lost.remove(model);
        else if (state === "gone") {
          if (hasCopy(model)) continue;
          const usedMs = used.get(model);
          if (usedMs !== undefined) lost.add(model, usedMs);
          lately.delete(model);
          lately.set(model, clock.monotonicMs());
        }
      }
      trim();
      if (!settled) return;
      const nowMs = clock.monotonicMs();
      settle(nowMs);
      begin(nowMs);
    },
    tick() {
      trim();
      const nowMs = clock.monotonicMs();
      settle(nowMs);
      begin(nowMs);
    },
  };
}
