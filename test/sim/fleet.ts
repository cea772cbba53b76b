// Owns the simulated fleet: many pods and models under the same pure functions that the real one decides by: place,
// chooseVictims, the LRU with its heat, decideCopies, chooseShrink. Time is the trace's; a load is over at once, since what is asked here is what
// is where, not how long it takes.
import { bonusMs, type Heat, noHeat, rateOf, warmUp } from "#core/heat.ts";
import { createLru, type Lru } from "#core/lru.ts";
import { chooseVictims } from "#core/placement/evict.ts";
import { place } from "#core/placement/place.ts";
import type { PlacementRequest, PodView } from "#core/placement/request.ts";
import { chooseShrink } from "#core/placement/shrink.ts";
import { createHistogram } from "#core/samples.ts";
import { decideCopies, noScaling, type ScalingPolicy, type ScalingState } from "#core/scaling.ts";
import { createRandom, type Trace } from "./trace.ts";

export interface SimOptions {
  readonly seed: number;
  readonly pods: number;
  readonly capacityBytes: number;
  readonly policy: ScalingPolicy;
  /** Reads a real clock around each placement. */
  readonly timeMs?: () => number;
}

export interface SimSample {
  readonly atMs: number;
  readonly misses: number;
  readonly evictions: number;
  /** Of full pods, the ages of their oldest copies, from the youngest to the oldest. */
  readonly cacheAgesMs: readonly number[];
  /** Requests per second, from the calmest pod to the busiest. */
  readonly podRates: readonly number[];
}

export interface SimReport {
  readonly requests: number;
  readonly misses: number;
  readonly refused: number;
  readonly evictions: number;
  readonly scaledUp: number;
  readonly scaledDown: number;
  /** Models whose number of copies went up and down again within five minutes. */
  readonly oscillations: number;
  /** Placements, in milliseconds of real time; undefined without a clock. */
  readonly decisionP99Ms: number | undefined;
  readonly samples: readonly SimSample[];
}

interface Pod {
  readonly at: number;
  readonly podId: string;
  readonly node: string;
  readonly zone: string;
  readonly lru: Lru<number>;
  requests: number;
  rate: number;
  view: PodView | undefined;
}

interface ModelState {
  pods: number[];
  heat: Heat;
  scaling: ScalingState;
  requests: number;
  inUseSinceMs: number;
  lastUsedMs: number;
  scaledUpMs: number;
  /** When a copy that found no room is tried again. */
  retryMs: number;
}

const sampleMs = 10_000;
const tickMs = 1_000;
const pauseMs = 60_000;
const busyMsPerRequest = 5;
const swingMs = 300_000;

export function simulate(trace: Trace, options: SimOptions): SimReport {
  const { capacityBytes, policy, timeMs } = options;
  const random = createRandom(options.seed);
  const pods: Pod[] = Array.from({ length: options.pods }, (_, at) => ({
    at,
    podId: `pod-${at}`,
    node: `node-${at >> 1}`,
    zone: `zone-${at % 3}`,
    lru: createLru<number>(),
    requests: 0,
    rate: 0,
    view: undefined,
  }));
  const models = new Map<number, ModelState>();
  const decisions = createHistogram();
  const samples: SimSample[] = [];
  const totals = { misses: 0, refused: 0, evictions: 0, scaledUp: 0, scaledDown: 0, oscillations: 0 };
  let used = new Set<number>();
  const scaled = new Set<number>();
  let viewsAtMs = Number.NEGATIVE_INFINITY;
  let views: PodView[] = [];

  /** As gauges tell of pods: some half a second old, but for what was just placed there. */
  function viewOf(pod: Pod, nowMs: number): PodView {
    const oldest = pod.lru.oldest();
    return {
      podId: pod.podId,
      runtime: "onnx",
      formats: ["onnx"],
      labels: {},
      capacityBytes,
      usedBytes: pod.lru.totalBytes,
      queued: 0,
      loading: 0,
      oldestIdleMs: oldest === undefined ? 0 : Math.max(0, nowMs - oldest.lastUsedMs),
      draining: false,
      reachable: true,
      requestsPerSecond: pod.rate,
      zone: pod.zone,
      node: pod.node,
    };
  }

  function load(model: number, nowMs: number, state: ModelState, waitingUser: boolean, spareOnly: boolean): boolean {
    if (nowMs - viewsAtMs > 500) {
      views = pods.map((pod) => viewOf(pod, nowMs));
      viewsAtMs = nowMs;
    }
    const sizeBytes = trace.sizesBytes[model] ?? 1;
    const request: PlacementRequest = {
      model: `m${model}`,
      revision: "r1",
      format: "onnx",
      runtime: undefined,
      sizeBytes,
      requiredLabels: {},
      preferredLabels: {},
      excluded: new Map(),
      holders: new Set(state.pods.map((at) => `pod-${at}`)),
      waitingUser,
      requestsPerSecond: rateOf(state.heat, nowMs) || undefined,
      minAgeMs: spareOnly ? 1_800_000 : 10_000,
    };
    const startedMs = timeMs?.() ?? 0;
    const placed = place(request, views, nowMs);
    if (timeMs !== undefined) decisions.record(timeMs() - startedMs);
    if (placed.kind === "nowhere") return false;
    const pod = pods[Number(placed.podId.slice(4))];
    if (pod === undefined) return false;
    const chosen = chooseVictims({
      neededBytes: sizeBytes,
      freeBytes: capacityBytes - pod.lru.totalBytes,
      candidates: candidatesOf(pod, nowMs),
      nowMs,
      minAgeMs: 10_000,
      waitingUser,
      requestsPerSecond: rateOf(state.heat, nowMs),
    });
    if (chosen.kind === "no-room") return false;
    for (const { key } of chosen.victims) drop(pod, key);
    totals.evictions += chosen.victims.length;
    pod.lru.set(model, { lastUsedMs: nowMs, sizeBytes });
    state.pods.push(pod.at);
    views[pod.at] = viewOf(pod, nowMs);
    return true;
  }

  function* candidatesOf(pod: Pod, nowMs: number) {
    for (const entry of pod.lru.fromOldest()) {
      const heat = models.get(entry.key)?.heat ?? noHeat;
      yield { ...entry, pinned: false, requestsPerSecond: rateOf(heat, nowMs) };
    }
  }

  function drop(pod: Pod, model: number): void {
    pod.lru.delete(model);
    const state = models.get(model);
    if (state !== undefined) state.pods = state.pods.filter((at) => at !== pod.at);
  }

  function request(model: number, nowMs: number): void {
    let state = models.get(model);
    if (state === undefined) {
      const scaling = noScaling;
      state = {
        pods: [],
        heat: noHeat,
        scaling,
        requests: 0,
        inUseSinceMs: nowMs,
        lastUsedMs: nowMs,
        scaledUpMs: -swingMs,
        retryMs: 0,
      };
      models.set(model, state);
    }
    if (nowMs - state.lastUsedMs > pauseMs) state.inUseSinceMs = nowMs;
    state.lastUsedMs = nowMs;
    state.requests += 1;
    used.add(model);
    if (state.pods.length === 0) {
      totals.misses += 1;
      if (!load(model, nowMs, state, true, false)) {
        totals.refused += 1;
        return;
      }
    }
    const pod = pods[state.pods[Math.floor(random() * state.pods.length)] ?? 0];
    if (pod !== undefined) pod.requests += 1;
  }

  /** What the gateways do once a second: news of use for the LRUs, and copies by demand. */
  function tick(nowMs: number): void {
    for (const model of used) {
      const state = models.get(model);
      if (state === undefined) continue;
      state.heat = warmUp(state.heat, state.requests, nowMs);
      for (const at of state.pods) pods[at]?.lru.touch(model, state.lastUsedMs + bonusMs(state.heat));
      scale(model, state, nowMs);
      state.requests = 0;
    }
    for (const model of scaled) {
      const state = models.get(model);
      if (state !== undefined && !used.has(model)) scale(model, state, nowMs);
    }
    used = new Set();
    for (const pod of pods) {
      pod.rate = pod.rate * 0.8 + ((pod.requests * 1_000) / tickMs) * 0.2;
      pod.requests = 0;
    }
  }

  function scale(model: number, state: ModelState, nowMs: number): void {
    const inUse = nowMs - state.lastUsedMs <= pauseMs;
    const requestsPerSecond = Math.max(state.requests * (1_000 / tickMs), rateOf(state.heat, nowMs));
    const demand = {
      requestsPerSecond,
      concurrency: (requestsPerSecond * busyMsPerRequest) / 1_000,
      inUseSinceMs: inUse ? state.inUseSinceMs : undefined,
    };
    const wanted = decideCopies(demand, state.scaling, { minCopies: 0, maxCopies: pods.length }, policy, nowMs);
    const was = state.scaling.copies;
    state.scaling = wanted.state;
    const { copies } = wanted.state;
    if (copies >= 2) scaled.add(model);
    else scaled.delete(model);
    if (copies > was && copies >= 2) {
      totals.scaledUp += 1;
      state.scaledUpMs = nowMs;
    }
    const more = copies >= 2 && nowMs >= state.retryMs ? copies - state.pods.length : 0;
    for (let left = more; left > 0; left--) {
      if (load(model, nowMs, state, false, wanted.forDemand < 2)) continue;
      state.retryMs = nowMs + pauseMs;
      break;
    }
    if (copies < was && was >= 2) {
      totals.scaledDown += 1;
      if (nowMs - state.scaledUpMs < swingMs && nowMs - state.scaledUpMs < policy.downAfterMs) totals.oscillations += 1;
      const holders = state.pods.flatMap((at) => pods[at] ?? []).map((pod) => viewOf(pod, nowMs));
      for (const podId of chooseShrink(holders, Math.max(1, copies))) {
        const pod = pods[Number(podId.slice(4))];
        if (pod !== undefined) drop(pod, model);
      }
    }
  }

  let nextTickMs = tickMs;
  let nextSampleMs = sampleMs;
  for (const [at, nowMs] of trace.timesMs.entries()) {
    for (; nextTickMs <= nowMs; nextTickMs += tickMs) tick(nextTickMs);
    if (nextSampleMs <= nowMs) {
      samples.push(sampleOf(nowMs));
      nextSampleMs += sampleMs;
    }
    request(trace.modelIds[at] ?? 0, nowMs);
  }

  function sampleOf(nowMs: number): SimSample {
    const full = pods.filter(({ lru }) => lru.totalBytes > capacityBytes * 0.9);
    const ages = full.map(({ lru }) => Math.max(0, nowMs - (lru.oldest()?.lastUsedMs ?? nowMs)));
    return {
      atMs: nowMs,
      misses: totals.misses,
      evictions: totals.evictions,
      cacheAgesMs: ages.sort((a, b) => a - b),
      podRates: pods.map(({ rate }) => rate).sort((a, b) => a - b),
    };
  }

  return {
    requests: trace.modelIds.length,
    ...totals,
    decisionP99Ms: decisions.count === 0 ? undefined : decisions.quantile(0.99),
    samples,
  };
}
