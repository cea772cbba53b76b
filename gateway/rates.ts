// Owns how much each model is used, for those whose home this gateway is: what every gateway's Envoy saw, by their reports.
// Work is done for the models used since the last call only; memory is bounded, and what is not used for a minute is
// forgotten.
import { type Average, averageOn, noAverage, sampleVariance, sureOf } from "#core/averages.ts";
import type { Demand } from "#core/scaling.ts";
import type { Clock } from "#platform/clock.ts";
import type { PeerUse } from "./peers.ts";

export interface Rates {
  add(uses: readonly PeerUse[]): void;
  /** Requests per second, those that found no copy included; undefined when it has not been used lately. */
  rateOf(model: string): number | undefined;
  /**
   * What copies bear, and is sure: one sampled request of an idle model is no demand, whatever it stands for; nor are a thousand
   * that have waited for one load, since they are a backlog and no rate.
   */
  demandOf(model: string): Demand;
  /** Once a second: the models that were used since the last call. */
  take(): Iterable<string>;
  /** How long ago the model was used last; undefined when that is longer than a minute. */
  idleMs(model: string): number | undefined;
}

interface Entry {
  requests: number;
  /** Those that found a copy as they came. */
  borne: number;
  busyMs: number;
  borneVariance: number;
  busyVariance: number;
  rate: Average;
  demand: Averages;
  concurrency: Averages;
  updatedMs: number;
  readonly inUseSinceMs: number;
  lastUsedMs: number;
}

/** Over a short time more copies come soon; over a longer one a sampled rate is better known. */
interface Averages {
  readonly soon: Average;
  readonly steady: Average;
}

/** The weight of what was before, with each second that passes: more copies must come within two seconds. */
const keptPerSecond = { soon: 0.4, steady: 0.9 };
const noAverages: Averages = { soon: noAverage, steady: noAverage };
/** A longer pause ends a continuous use. */
const pauseMs = 60_000;
const maxModels = 200_000;

export function createRates(clock: Pick<Clock, "monotonicMs">): Rates {
  // In the order in which they were heard of last.
  const entries = new Map<string, Entry>();
  let used = new Set<string>();

  function add(use: PeerUse, nowMs: number): void {
    const lastUsedMs = nowMs - use.idleMs;
    const known = entries.get(use.model);
    const isContinued = known !== undefined && lastUsedMs - known.lastUsedMs <= pauseMs;
    const entry: Entry = isContinued
      ? known
      : {
          requests: 0,
          borne: 0,
          busyMs: 0,
          borneVariance: 0,
          busyVariance: 0,
          rate: noAverage,
          demand: noAverages,
          concurrency: noAverages,
          updatedMs: nowMs - 1_000,
          inUseSinceMs: lastUsedMs,
          lastUsedMs,
        };
    // Which requests reached a pod the access log says; which were refused for want of one only the gateway that refused.
    entry.requests += use.requests + use.misses;
    entry.busyMs += use.busyMs;
    const borne = Math.max(0, use.requests - use.waited);
    entry.borne += borne;
    entry.borneVariance += sampleVariance(borne, borne, use.weight);
    entry.busyVariance += sampleVariance(use.busyMs, borne, use.weight);
    entry.lastUsedMs = Math.max(entry.lastUsedMs, lastUsedMs);
    entries.delete(use.model);
    entries.set(use.model, entry);
    used.add(use.model);
  }

  function forget(nowMs: number): void {
    for (const [model, { lastUsedMs }] of entries) {
      if (entries.size <= maxModels && nowMs - lastUsedMs <= pauseMs) return;
      entries.delete(model);
    }
  }

  /** What was gathered goes into the averages. */
  function update(entry: Entry, nowMs: number): void {
    const seconds = Math.max((nowMs - entry.updatedMs) / 1_000, 0.1);
    entry.rate = averageOn(entry.rate, entry.requests, 0, seconds, keptPerSecond.soon);
    entry.demand = onBoth(entry.demand, entry.borne, entry.borneVariance, seconds);
    entry.concurrency = onBoth(entry.concurrency, entry.busyMs / 1_000, entry.busyVariance / 1e6, seconds);
    entry.updatedMs = nowMs;
    entry.requests = 0;
    entry.borne = 0;
    entry.busyMs = 0;
    entry.borneVariance = 0;
    entry.busyVariance = 0;
  }

  /** Without a request for a while, the rate is at most one in that time. */
  function fallen(value: number, { updatedMs }: Entry, nowMs: number): number {
    const quietMs = nowMs - updatedMs - 2_000;
    return quietMs <= 0 ? value : Math.min(value, 1_000 / quietMs);
  }

  return {
    add(uses) {
      const nowMs = clock.monotonicMs();
      for (const use of uses) add(use, nowMs);
      forget(nowMs);
    },
    rateOf(model) {
      const entry = entries.get(model);
      return entry === undefined ? undefined : fallen(entry.rate.value, entry, clock.monotonicMs());
    },
    demandOf(model) {
      const entry = entries.get(model);
      const nowMs = clock.monotonicMs();
      if (entry === undefined || nowMs - entry.lastUsedMs > pauseMs) {
        return { requestsPerSecond: 0, concurrency: 0, inUseSinceMs: undefined };
      }
      const { demand, concurrency, inUseSinceMs } = entry;
      return {
        requestsPerSecond: fallen(sure(demand), entry, nowMs),
        concurrency: fallen(sure(concurrency), entry, nowMs),
        inUseSinceMs,
      };
    },
    idleMs(model) {
      const lastUsedMs = entries.get(model)?.lastUsedMs;
      return lastUsedMs === undefined ? undefined : Math.max(0, clock.monotonicMs() - lastUsedMs);
    },
    take() {
      const nowMs = clock.monotonicMs();
      const taken = used;
      used = new Set();
      for (const model of taken) {
        const entry = entries.get(model);
        if (entry !== undefined) update(entry, nowMs);
      }
      return taken;
    },
  };
}

function onBoth({ soon, steady }: Averages, sum: number, variance: number, seconds: number): Averages {
  return {
    soon: averageOn(soon, sum, variance, seconds, keptPerSecond.soon),
    steady: averageOn(steady, sum, variance, seconds, keptPerSecond.steady),
  };
}

/** The longer average counts for no more than the rate has been of late: what has ended is no demand. */
function sure({ soon, steady }: Averages): number {
  return Math.max(sureOf(soon), Math.min(sureOf(steady), soon.value));
}
