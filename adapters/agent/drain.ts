// Owns a pod's being emptied: everything serves on, nothing is taken, and gateways are told what wants another place.
import type { HoldingEffect } from "./events.ts";
import { type Copy, viewOf } from "./ledger.ts";

export interface Drain {
  readonly active: boolean;
  begin(patienceMs: number, nowMs: number): void;
  /** For gateways: what is ready, the most recently used first. */
  effect(copies: readonly Copy[], nowMs: number): Extract<HoldingEffect, { kind: "draining" }>;
}

export function createDrain(): Drain {
  let untilMs: number | undefined;
  return {
    get active(): boolean {
      return untilMs !== undefined;
    },
    begin(patienceMs, nowMs): void {
      untilMs = nowMs + patienceMs;
    },
    effect(copies, nowMs): Extract<HoldingEffect, { kind: "draining" }> {
      const ready = copies.filter(({ state }) => state === "ready").sort((a, b) => b.lastUsedMs - a.lastUsedMs);
      return { kind: "draining", copies: ready.map(viewOf), patienceMs: Math.max(0, (untilMs ?? nowMs) - nowMs) };
    },
  };
}
