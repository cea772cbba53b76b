// Owns the benchmark `density`: twenty thousand warm models on two pods, asked by thousands of clients at once.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRestCaller } from "#cli/traffic/rest.ts";
import { openRegistry, putAll } from "#platform/registry/open.ts";
import { modelKey, modelPrefix } from "#platform/registry/records.ts";
import { openFleet, type TestFleet } from "#test/harness/fleet.ts";
import { waitUntil } from "#test/harness/wait.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { readMemory } from "./fakefleet.ts";
import type { LoadPlan } from "./load/plan.ts";
import { openLoadProcess } from "./load/process.ts";
import { latencyLine, shareAxis } from "./plot.ts";
import { type BenchCase, buildRequestFile, checkCases, chooseCases } from "./requests.ts";
import { roundTo } from "./stats.ts";

export const densityBenchmark: Benchmark = {
  name: "density",
  summary: "20,000 warm models on two pods of the built-in model server, thousands of requests at a time",
  figures: {
    models: "warm models, each asked in turn",
    pods: "pods that hold them",
    requests: "requests answered in the measured window, REST",
    failed: "requests that were not answered as they should be, warming included",
    concurrency: "requests under way at any time",
    p50Ms: "time of a request in milliseconds at that concurrency: half are faster",
    p99Ms: "time that 99 of 100 do not exceed",
    steadyP50Ms: "the same of those clients when they send half as many requests a second, evenly: half are faster",
    steadyP99Ms: "time that 99 of 100 of these do not exceed",
    steadyPerSecond: "requests a second then",
    loneP50Ms: "time of a request with 8 requests at a time: what one waits when it does not wait for others",
    requestsPerSecond: "answered in a second",
    rssBytesPerModel: "resident memory of the model servers over the number of their models",
  },
  run: runDensity,
};

const pods = 2;
const wantedModels = 20_000;
const concurrency = 2_000;
const lone = 8;
const settleMs = 5_000;
const measureMs = 15_000;
const capacityBytes = 4 * 2 ** 30;
const warmMs = 3_600_000;
const copySuffix = "-again";

async function runDensity(
  { say, keep, quick }: BenchmarkContext,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<Figures> {
  const fleet = stack.use(await openFleet({ pods, capacityBytes }));
  const cases = await registerTwice(fleet, quick ? wantedModels / 20 : wantedModels);
  say(`${cases.length} models are registered; each is asked once`);
  const caller = stack.use(createRestCaller({ url: fleet.restUrl, connections: 16, timeoutMs: 120_000 }));
  // Throws at the first that is wrong: then there is nothing to measure.
  await checkCases(caller, cases, AbortSignal.any([signal, AbortSignal.timeout(warmMs)]));
  const { warm, loads, evictions } = await fleet.stats();
  if (warm !== cases.length || evictions > 0)
    throw new Error(`${warm} of ${cases.length} models are warm, ${evictions} were evicted`);
  say(`${warm} are warm after ${loads} loads`);
  const file = join(fleet.runFolder, "requests.json");
  await writeFile(file, JSON.stringify(buildRequestFile(cases)));
  const load = stack.use(openLoadProcess(file));
  const url = new URL(fleet.restUrl);
  const plan: Omit<LoadPlan, "concurrency"> = {
    wire: "rest",
    requests: "rest",
    host: url.hostname,
    port: Number(url.port),
    settleMs,
    measureMs,
    watchedPids: [],
  };
  const alone = await load.run({ ...plan, concurrency: lone }, signal);
  const many = await load.run({ ...plan, concurrency }, signal);
  // At full speed the time of a request is the number of clients over the rate, whatever the gateway does.
  const perSecond = many.requests / many.seconds;
  const steadyPerSecond = Math.round(perSecond / 2);
  const steady = await load.run({ ...plan, concurrency, requestsPerSecond: steadyPerSecond }, signal);
  for (const reason of [...alone.reasons, ...many.reasons, ...steady.reasons]) say(`  ${reason}`);
  keep({
    title: `${warm} warm models, each asked in turn`,
    x: shareAxis,
    y: { label: "time of a request, ms", scale: "log" },
    lines: [
      latencyLine(`${lone} at a time`, [alone.quantilesMs]),
      latencyLine(`${steadyPerSecond} a second`, [steady.quantilesMs]),
      latencyLine(`${concurrency} at a time`, [many.quantilesMs]),
    ],
  });
  const memories = await Promise.all(Array.from({ length: pods }, (_, at) => readMemory(pidOf(fleet, `pod-${at}-server`))));
  const rssBytes = memories.reduce((sum, memory) => sum + memory.rssBytes, 0);
  return {
    models: warm,
    pods,
    requests: many.requests,
    failed: many.failed + alone.failed + steady.failed,
    concurrency,
    p50Ms: roundTo(many.p50Ms, 2),
    p99Ms: roundTo(many.p99Ms, 2),
    steadyP50Ms: roundTo(steady.p50Ms, 2),
    steadyP99Ms: roundTo(steady.p99Ms, 2),
    steadyPerSecond,
    loneP50Ms: roundTo(alone.p50Ms, 2),
    requestsPerSecond: Math.round(perSecond),
    rssBytesPerModel: Math.round(rssBytes / warm),
  };
}

/** The library has half as many: each of its models is registered under a second name. */
async function registerTwice(fleet: TestFleet, wanted: number): Promise<readonly BenchCase[]> {
  const cases = chooseCases(fleet.oracle, wanted / 2);
  await using registry = await openRegistry(fleet.registry);
  const again: { key: string; value: string }[] = [];
  for (const { model } of cases) {
    const entry = await registry.get(modelKey(model));
    if (entry === undefined) throw new Error(`${model} is not registered`);
    const name = `${model}${copySuffix}`;
    again.push({ key: modelPrefix + name, value: renamed(entry.value, name) });
  }
  const put = await putAll(registry, again);
  if (put.kind !== "ok") throw new Error(`the registry refused the second names: ${put.kind}`);
  await waitUntil(
    "the gateway knows all models",
    async () => (await fleet.stats()).models,
    (models) => models >= 2 * cases.length,
    120_000,
  );
  return cases.flatMap((one) => [one, { ...one, model: `${one.model}${copySuffix}` }]);
}

function renamed(record: string, name: string): string {
  const model: unknown = JSON.parse(record);
  return JSON.stringify({ ...(typeof model === "object" ? model : {}), name });
}

function pidOf(fleet: TestFleet, name: string): number {
  const { pid } = fleet.process(name);
  if (pid === undefined) throw new Error(`${name} does not run`);
  return pid;
}
