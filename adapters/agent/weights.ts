// Owns what copies weigh: what a load is predicted to take, what it turns out to take, and how much all of them may. It corrects
// what was predicted wrongly: too little for a load that found no memory, too much or too little for copies that were guessed
// before anything of their kind was measured.
// Invariant: what one step learns counts before that step makes room for the next load.
import type { ServerLimits } from "../drivers/driver.ts";
import { type Allowance, type AllowanceOptions, createAllowance } from "./allowance.ts";
import type { Ask } from "./asks.ts";
import type { HoldingEvent } from "./events.ts";
import type { Copy, Ledger } from "./ledger.ts";
import { createSizes, type SizeFacts } from "./sizes.ts";
import { factsOf } from "./views.ts";

export interface Weights {
  readonly allowance: Pick<Allowance, "bytes" | "capacityBytes" | "loadConcurrency" | "exceeded" | "takeOwed">;
  /** Undefined: the artefact must be looked up first. */
  predict(facts: SizeFacts, nowMs: number): number | undefined;
  neededBytes(ask: Ask, nowMs: number): number | undefined;
  /** The load of this copy ended well. */
  loaded(copy: Copy, event: Extract<HoldingEvent, { kind: "loaded" }>, lastUsedMs: number): void;
  /** There was no memory for it. `deadly`: so many loads were under way in the model server that was killed for it. */
  tooLittle(copy: Copy, deadly: number | undefined, nowMs: number): void;
  seen(bytes: number): void;
  told(limits: ServerLimits): void;
  /** Before what the model server held is taken out of the ledger. */
  lost(): void;
}

export function createWeights(ledger: Ledger, options: AllowanceOptions): Weights {
  const allowance = createAllowance(options);
  const sizes = createSizes();
  /** What the last model server that was lost had when that happened. */
  let atLoss = { bytes: 0, allowedBytes: 0, killed: false };

  /** Copies that were guessed are thought to take what others of their kind do. */
  const reprice = (format: string): void => {
    let changed = false;
    for (const copy of ledger.guessed(format)) {
      const sizeBytes = copy.facts === undefined ? undefined : sizes.learned(copy.facts);
      if (sizeBytes === undefined) continue;
      ledger.reprice(copy, Math.max(1, sizeBytes));
      changed = true;
    }
    if (changed) allowance.repriced();
  };

  return {
    allowance,
    predict: (facts, nowMs) => sizes.predict(facts, nowMs),
    neededBytes: (ask, nowMs) => sizes.predict(factsOf(ask), nowMs),
    loaded(copy, { sizeBytes, measured, memoryBytes }, lastUsedMs): void {
      // A copy without size could never be evicted.
      const bytes = Math.max(1, Math.round(sizeBytes));
      ledger.loaded(copy, bytes, lastUsedMs, !measured);
      allowance.loaded();
      if (measured && copy.facts !== undefined) {
        sizes.learn(copy.facts, bytes);
        reprice(copy.facts.format);
      }
      if (memoryBytes !== undefined) allowance.seen(memoryBytes, ledger.usedBytes);
    },
    tooLittle(copy, deadly, nowMs): void {
      const reservedBytes = copy.sizeBytes;
      if (deadly === undefined) return sizes.tooLittle(copy.key, 2 * reservedBytes, nowMs);
      if (!atLoss.killed) allowance.overdrawn(atLoss.bytes);
      atLoss.killed = true;
      // Whatever was thought to be free was not enough for those that were loading.
      const freeBytes = Math.max(0, atLoss.allowedBytes - atLoss.bytes);
      return sizes.tooLittle(copy.key, Math.max(2 * reservedBytes, reservedBytes + freeBytes / deadly + 1), nowMs);
    },
    seen: (bytes) => allowance.seen(bytes, ledger.usedBytes),
    told(limits): void {
      allowance.told(limits);
      sizes.told(limits.defaultSizeBytes);
    },
    lost(): void {
      atLoss = { bytes: ledger.usedBytes + ledger.reservedBytes, allowedBytes: allowance.bytes, killed: false };
      allowance.lost();
    },
  };
}
