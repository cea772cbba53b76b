// Owns the benchmark `scale`: what a table of many warm models costs Envoy and the gateway, and how fast it changes.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRandom, shuffle } from "#cli/library/random.ts";
import { sleep } from "#platform/clock.ts";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import type { CopyInit } from "#test/harness/fakepod.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { type FakeFleet, modelName, openFakeFleet, readMemory, waitFor } from "./fakefleet.ts";
import type { LoadResult } from "./load/plan.ts";
import { openLoadProcess } from "./load/process.ts";
import { median, medianRatio, orderOfRound, percentile, roundTo } from "./stats.ts";

export const scaleBenchmark: Benchmark = {
  name: "scale",
  summary: "Envoy and the gateway with up to 100,000 warm models; the same figures for 1,000 and 20,000 stand under `sizes`",
  figures: {
    envoyBytesPerModel:
      "memory that Envoy has allocated (its /memory, which server.memory_allocated shows later), less what it has with 3 models, per warm model",
    envoyBytes: "memory that Envoy has allocated in all",
    gatewayRssBytes: "resident memory of the gateway, all models registered and warm, 2 s after Envoy has them",
    gatewayPeakRssBytes: "the most it was since its start",
    changeToAckP50Ms:
      "a pod says that a copy leaves, until it hears that Envoy has acknowledged the route without it: half are faster",
    changeToAckP99Ms:
      "the same that 99 of 100 do not exceed; 500 one after another after 1,000 to warm up (fewer where there are fewer models), half lose their scope, half change their set",
    addToAckP50Ms: "the same where another model becomes ready in the same delta, hence one scope comes and one goes",
    addToAckP99Ms: "the same that 99 of 100 do not exceed; 200 one after another",
    fullSyncMs: "Envoy killed and started again: from its start until all scopes are active in its own statistics; median of 3",
    envoyCpuRatio:
      "Envoy CPU per hit over Envoy CPU per request of a plain static route in turn, REST, models at random; median of rounds",
    envoyCpuHitUs: "processor time of all Envoy's threads per hit, in microseconds",
    envoyCpuStaticUs: "the same per request of the static route",
    gatewayStartMs: "from the gateway's start until it has read the registry and what every pod holds",
    models: "warm models, on 3 pods that only say so, one in eight on two of them",
    registered: "registered models",
    rounds: "rounds of hits and static route",
  },
  run: runScale,
};

interface Size {
  readonly models: number;
  readonly registered: number;
}

const sizes: readonly Size[] = [
  { models: 1_000, registered: 1_000 },
  { models: 20_000, registered: 20_000 },
  { models: 100_000, registered: 1_000_000 },
];
const podCount = 3;
/** One model in so many is on two pods. */
const secondCopyEvery = 8;
const clients = 8;
const hitSettleMs = 2_000;
const settleMs = 300;
const measureMs = 1_000;
/** One round may be a tenth off. */
const roundsOfCpu = 3;
const restarts = 3;
const leaves = 500;
const swaps = 200;
/** Until the compilers of both processes are done with what changes run. */
const mostWarmups = 1_000;
const seed = 11;

async function runScale(context: BenchmarkContext, signal: AbortSignal): Promise<Figures> {
  const { say } = context;
  const bare = await measureBare(context, signal);
  say(`Envoy has allocated ${(bare / 2 ** 20).toFixed(1)} MiB with ${podCount} models`);
  const rows: Record<string, Readonly<Record<string, number>>> = {};
  let last: Readonly<Record<string, number>> = {};
  for (const size of context.quick ? sizes.slice(0, 2) : sizes) {
    last = await measureSize(size, bare, context, signal);
    say(JSON.stringify(last));
    rows[size.models] = last;
  }
  const over = (name: string): readonly (readonly [number, number])[] =>
    Object.entries(rows).map(
      ([models, figures]) => [Number(models), Number(((figures[name] ?? 0) / 2 ** 20).toFixed(1))] as const,
    );
  context.keep({
    title: "Memory against warm models",
    x: { label: "warm models" },
    y: { label: "MiB" },
    lines: [
      { name: "Envoy, allocated", points: over("envoyBytes") },
      { name: "gateway, resident", points: over("gatewayRssBytes") },
    ],
  });
  const times = (name: string): readonly (readonly [number, number])[] =>
    Object.entries(rows).map(([models, figures]) => [Number(models), figures[name] ?? 0] as const);
  context.keep({
    title: "From a change to Envoy's acknowledgement",
    x: { label: "warm models", scale: "log" },
    y: { label: "ms" },
    lines: [
      { name: "half are faster than", points: times("changeToAckP50Ms") },
      { name: "99 of 100 are faster than", points: times("changeToAckP99Ms") },
    ],
  });
  return { ...last, sizes: rows };
}

async function measureBare({ envoyBinary }: BenchmarkContext, signal: AbortSignal): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const fleet = await openFakeFleet({ envoyBinary, registered: podCount, copies: buildHoldings(podCount) }, signal, stack);
  await whenActive(fleet, podCount, signal);
  return await settledMemory(fleet, signal);
}

async function measureSize(
  { models, registered }: Size,
  bareBytes: number,
  { envoyBinary, rounds, say }: BenchmarkContext,
  signal: AbortSignal,
): Promise<Readonly<Record<string, number>>> {
  await using stack = new AsyncDisposableStack();
  say(`${models} warm models, ${registered} registered: starting`);
  const fleet = await openFakeFleet({ envoyBinary, registered, copies: buildHoldings(models) }, signal, stack);
  await whenActive(fleet, models, signal);
  const allocated = await settledMemory(fleet, signal);
  const memory = await readMemory(fleet.gatewayPid);
  say("hits against the static route");
  const cpuRounds = rounds * roundsOfCpu;
  const cpu = await measureCpu(fleet, models, cpuRounds, signal, stack);
  say("full syncs");
  const syncs: number[] = [];
  for (let restart = 0; restart < restarts; restart++) syncs.push(await measureSync(fleet, models, signal));
  say("changes");
  const changes = await measureChanges(fleet, models, signal);
  return {
    envoyBytesPerModel: Math.round((allocated - bareBytes) / models),
    envoyBytes: allocated,
    gatewayRssBytes: memory.rssBytes,
    gatewayPeakRssBytes: memory.peakBytes,
    ...changes,
    fullSyncMs: Math.round(median(syncs)),
    ...cpu,
    gatewayStartMs: Math.round(fleet.gatewayStartMs),
    models,
    registered,
    rounds: cpuRounds,
  };
}

function buildCopy(at: number, state: CopyState): CopyInit {
  return { model: modelName(at), revision: "r1", slot: 0, state, sizeBytes: 100_000n };
}

/** Model after model to the next pod; the second copy is on the pod after it. */
function buildHoldings(models: number): readonly (readonly CopyInit[])[] {
  const holdings: CopyInit[][] = Array.from({ length: podCount }, () => []);
  for (let at = 0; at < models; at++) {
    const copy = buildCopy(at, CopyState.READY);
    holdings[at % podCount]?.push(copy);
    if (hasSecond(at, models)) holdings[(at + 1) % podCount]?.push(copy);
  }
  return holdings;
}

function hasSecond(at: number, models: number): boolean {
  return models > podCount && at % secondCopyEvery === 0;
}

/** Envoy's own count of scopes: of every model, of each pod, and perhaps of some sets more. */
async function whenActive({ envoyAdmin }: FakeFleet, models: number, signal: AbortSignal, pauseMs = 50): Promise<void> {
  const isSo = async (): Promise<boolean> => {
    const stats = await envoyAdmin.stats("^http\\.warm_http\\.scoped_rds\\..*active_scopes$");
    return stats !== undefined && [...stats.values()].some((scopes) => scopes >= models + podCount + 1);
  };
  await waitFor("the table in Envoy", signal, isSo, pauseMs);
}

async function settledMemory({ envoyAdmin }: FakeFleet, signal: AbortSignal): Promise<number> {
  await sleep(2_000, signal);
  const bytes = await envoyAdmin.allocatedBytes();
  if (bytes === undefined) throw new Error("Envoy does not tell its memory");
  return bytes;
}

async function measureSync(fleet: FakeFleet, models: number, signal: AbortSignal): Promise<number> {
  const startedMs = await fleet.restartEnvoy();
  await whenActive(fleet, models, signal, 10);
  return performance.now() - startedMs;
}

async function measureCpu(
  fleet: FakeFleet,
  models: number,
  rounds: number,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<Readonly<Record<string, number>>> {
  const file = join(fleet.folder, "requests.json");
  await writeFile(file, JSON.stringify({ all: buildRequests(models) }));
  const load = stack.use(openLoadProcess(file));
  const samples: Record<"hit" | "plain", LoadResult[]> = { hit: [], plain: [] };
  for (let round = 0; round < rounds; round++) {
    for (const path of orderOfRound(["hit", "plain"] as const, round)) {
      const plan = { wire: "rest", requests: "all", ...fleet[path], concurrency: clients, measureMs } as const;
      const settle = path === "hit" ? hitSettleMs : settleMs;
      const result = await load.run({ ...plan, settleMs: settle, watchedPids: [fleet.envoyPid] }, signal);
      if (result.failed > 0) throw new Error(`${path}: ${result.failed} requests failed: ${result.reasons.join("; ")}`);
      samples[path].push(result);
    }
  }
  await load[Symbol.asyncDispose]();
  const hit = cpuUs(samples.hit);
  const plain = cpuUs(samples.plain);
  return {
    envoyCpuRatio: roundTo(medianRatio(hit, plain), 3),
    envoyCpuHitUs: roundTo(median(hit), 1),
    envoyCpuStaticUs: roundTo(median(plain), 1),
  };
}

function cpuUs(results: readonly LoadResult[]): readonly number[] {
  return results.map(({ cpuNs, requests }) => (cpuNs[0] ?? Number.NaN) / requests / 1_000);
}

/** Every model once, in no order: what the processor's caches hold is no help. */
function buildRequests(models: number): readonly { readonly path: string; readonly body: string }[] {
  const body = JSON.stringify({ inputs: [{ name: "x", datatype: "FP32", shape: [1], data: [0] }] });
  return shuffled(models).map((at) => ({ path: `/v2/models/${modelName(at)}/infer`, body }));
}

function shuffled(count: number): number[] {
  return shuffle(
    Array.from({ length: count }, (_, at) => at),
    createRandom(seed),
  );
}

async function measureChanges(
  { pods }: FakeFleet,
  models: number,
  signal: AbortSignal,
): Promise<Readonly<Record<string, number>>> {
  const order = shuffled(models);
  const single = order.filter((at) => !hasSecond(at, models));
  const double = order.filter((at) => hasSecond(at, models));
  /** Its first copy leaves, and `ready` becomes ready on the same pod. */
  const change = async (leaving: number, ready: readonly number[]): Promise<number> => {
    signal.throwIfAborted();
    const pod = pods[leaving % podCount];
    if (pod === undefined) throw new Error("there is no such pod");
    const startedMs = performance.now();
    pod.tell([buildCopy(leaving, CopyState.LEAVING), ...ready.map((at) => buildCopy(at, CopyState.READY))], true);
    await pod.whenWithdrawn();
    const tookMs = performance.now() - startedMs;
    pod.tell([buildCopy(leaving, CopyState.GONE)]);
    return tookMs;
  };
  const warmups = Math.min(mostWarmups, models / 10);
  const gone: number[] = [];
  const took = { leave: [] as number[], swap: [] as number[] };
  for (let step = 0; step < warmups + leaves; step++) {
    const at = (step % 2 === 0 ? single : double).pop();
    if (at === undefined) break;
    const tookMs = await change(at, []);
    if (step >= warmups) took.leave.push(tookMs);
    if (step % 2 === 0) gone.push(at);
  }
  for (let step = 0; step < swaps; step++) {
    const leaving = single.pop();
    const back = gone.pop();
    if (leaving === undefined || back === undefined) break;
    took.swap.push(await change(leaving, [back]));
  }
  return {
    changeToAckP50Ms: roundTo(median(took.leave), 2),
    changeToAckP99Ms: roundTo(percentile(took.leave, 0.99), 2),
    addToAckP50Ms: roundTo(median(took.swap), 2),
    addToAckP99Ms: roundTo(percentile(took.swap, 0.99), 2),
  };
}
