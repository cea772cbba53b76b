// Owns the figures of a holding as a moment's reading. Pure.
import { type Heat, rateOf } from "#core/heat.ts";
import type { LoadClass } from "#core/loadqueue.ts";
import type { Asks } from "./asks.ts";
import type { Ledger } from "./ledger.ts";

export interface HoldingGauges {
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly reservedBytes: number;
  readonly queued: number;
  readonly queuedByClass: Readonly<Record<LoadClass, number>>;
  readonly loading: number;
  readonly ready: number;
  readonly oldestIdleMs: number;
  readonly evictions: number;
  readonly loads: number;
  readonly loadFailures: number;
  readonly draining: boolean;
  /** By the gateways' reports of use. */
  readonly requestsPerSecond: number;
}

export interface GaugesParts {
  readonly ledger: Ledger;
  readonly asks: Asks;
  /** Of the pod as a whole. */
  readonly heat: Heat;
  readonly counts: Pick<HoldingGauges, "capacityBytes" | "evictions" | "loads" | "loadFailures" | "draining">;
}

export function buildGauges({ ledger, asks, heat, counts }: GaugesParts, nowMs: number): HoldingGauges {
  const { oldestUsedMs, usedBytes, reservedBytes, loading, ready } = ledger;
  return {
    ...counts,
    usedBytes,
    reservedBytes,
    queued: asks.size,
    queuedByClass: { ...asks.byClass },
    loading,
    ready,
    oldestIdleMs: oldestUsedMs === undefined ? 0 : Math.max(0, nowMs - oldestUsedMs),
    requestsPerSecond: rateOf(heat, nowMs),
  };
}
