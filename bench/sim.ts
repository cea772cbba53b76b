// Owns the simulation in full size: a thousand pods and a million models under the decisions of the real fleet.
import { defaultScalingPolicy } from "#core/scaling.ts";
import { countOfflineMisses } from "#test/sim/belady.ts";
import { type SimReport, simulate } from "#test/sim/fleet.ts";
import { quantileOf } from "#test/sim/report.ts";
import { buildTrace } from "#test/sim/trace.ts";
import type { Benchmark, BenchmarkContext } from "./benchmark.ts";

const allPods = 1_000;
const allModels = 1_000_000;
const capacityBytes = 2e9;

export const simBenchmark: Benchmark = {
  name: "sim",
  summary: "the decisions of a fleet of a thousand pods and a million models, simulated on a seeded trace with drift",
  figures: {
    requests: "requests of the trace",
    misses: "requests that found no copy",
    missesOverOffline: "misses over those of one cache of the same size that knows the future",
    refused: "requests for which no room was made",
    evictionsOverLoads: "copies evicted for each one loaded",
    cacheAgeP90OverP10: "of full pods, the ages of their oldest copies: 90th percentile over the 10th",
    podRateP95OverP50: "requests per second of pods: 95th percentile over the median",
    scaledUp: "times that a model got more copies",
    oscillations: "times that it lost them again right after",
    decisionP99Ms: "99th percentile of the time that a placement over all pods takes",
  },
  async run(context) {
    context.say("making the trace");
    const models = context.quick ? allModels / 10 : allModels;
    const pods = context.quick ? allPods / 10 : allPods;
    const trace = buildTrace({
      seed: 1,
      models,
      durationMs: context.quick ? 20_000 : 120_000,
      requestsPerSecond: 5_000,
      zipfExponent: 0.9,
      driftEveryMs: 500,
    });
    context.say(`simulating ${trace.modelIds.length} requests to ${models} models on ${pods} pods`);
    const policy = { ...defaultScalingPolicy, secondCopyAfterMs: 60_000, downAfterMs: 30_000 };
    const report = simulate(trace, { seed: 1, pods, capacityBytes, policy, timeMs: () => performance.now() });
    keepPlots(report, context);
    const last = report.samples.at(-1);
    const ages = last?.cacheAgesMs ?? [];
    const rates = last?.podRates ?? [];
    const loads = report.misses - report.refused + report.scaledUp;
    return {
      requests: report.requests,
      misses: report.misses,
      missesOverOffline: round(report.misses / countOfflineMisses(trace, pods * capacityBytes)),
      refused: report.refused,
      evictionsOverLoads: round(report.evictions / loads),
      cacheAgeP90OverP10: ages.length === 0 ? 1 : round(quantileOf(ages, 0.9) / Math.max(1, quantileOf(ages, 0.1))),
      podRateP95OverP50: round(quantileOf(rates, 0.95) / Math.max(0.01, quantileOf(rates, 0.5))),
      scaledUp: report.scaledUp,
      oscillations: report.oscillations,
      decisionP99Ms: round(report.decisionP99Ms ?? 0),
    };
  },
};

function keepPlots({ samples }: SimReport, { keep }: BenchmarkContext): void {
  const over = (valueOf: (sample: SimReport["samples"][number], before: SimReport["samples"][number] | undefined) => number) =>
    samples.map((sample, at) => [sample.atMs / 1_000, round(valueOf(sample, samples[at - 1]))] as const);
  const spread = (name: "cacheAgesMs" | "podRates", unit: number) =>
    [0.1, 0.5, 0.9].map((share) => ({
      name: `${share * 100}th percentile`,
      points: over((sample) => quantileOf(sample[name], share) / unit),
    }));
  const x = { label: "s of the trace" };
  const misses = over(
    ({ atMs, misses }, before) => ((misses - (before?.misses ?? 0)) * 1_000) / Math.max(1, atMs - (before?.atMs ?? 0)),
  );
  keep({
    title: "Simulated fleet: misses a second",
    x,
    y: { label: "misses a second" },
    lines: [{ name: "misses", points: misses }],
  });
  keep({
    title: "Simulated fleet: age of the oldest copy of full pods",
    x,
    y: { label: "s" },
    lines: spread("cacheAgesMs", 1_000),
  });
  keep({
    title: "Simulated fleet: requests a second of pods",
    x,
    y: { label: "requests a second" },
    lines: spread("podRates", 1),
  });
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
