// Owns the benchmark `miss`: what a cold request takes beyond the time that its model needs to load.
import { sleep } from "#platform/clock.ts";
import { CopyState, type Revision } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { readCpuNs } from "./cpu.ts";
import { type FakeFleet, modelName, openFakeFleet, waitFor } from "./fakefleet.ts";
import type { Http1Request } from "./load/http1.ts";
import { askAtOnce } from "./parked.ts";
import { latencyLine, quantilesOf, shareAxis } from "./plot.ts";
import { type Asked, askEach } from "./rawclient.ts";
import { percentile, roundTo } from "./stats.ts";

export const missBenchmark: Benchmark = {
  name: "miss",
  summary: "a cold model's request through Envoy and the gateway, beyond the time that its load takes",
  figures: {
    misses: "cold requests, each for another model: a twentieth (at most 2,000) one after another, the rest by 8 clients",
    failed: "requests of the whole run, parked ones included, that were not answered with 200",
    extProcErrors: "failures of Envoy's calls to the gateway for a miss, by its own statistics, over the whole run",
    overheadP50Ms:
      "time of a miss less its own load's and less a hit's median, one client alone, half with loads of 0 and half of 20 ms",
    overheadP99Ms: "the same that 99 of 100 do not exceed",
    overheadAt0P50Ms: "as overheadP50Ms, only loads that are ready at once",
    overheadAt20P50Ms: "as overheadP50Ms, only loads of 20 ms",
    busyOverheadP50Ms: "the same with 8 clients, loads at once: both processors are busy",
    busyOverheadP99Ms: "the same that 99 of 100 do not exceed",
    missesPerSecond: "cold requests a second of these 8 clients",
    hitP50Ms: "time of a hit, one client alone: half are faster",
    gatewayCpuMsPerMiss: "processor time of the gateway per miss, over all misses but the parked ones",
    envoyCpuMsPerMiss: "processor time of Envoy per miss, the same",
    parkedMax: "requests that waited in the gateway at the same moment, each for another model, until all loads ended at once",
    parkedFailed: "how many of them were not answered with 200",
    parkedReleaseMs: "from the end of the loads until the last of them was answered",
  },
  run: runMiss,
};

const podCount = 2;
const hotModels = 10;
const hits = 2_000;
const warmups = 200;
const slowLoadMs = 20;
const clients = 8;
const aloneShare = 0.05;
/** Of each kind of load. */
const leastAlone = 250;
const mostAlone = 1_000;
const parked = 10_000;
/** A pod forgets the model that it loaded so many loads ago, as one that is full evicts. */
const keptPerPod = 1_000;
const body = JSON.stringify({ inputs: [{ name: "x", datatype: "FP32", shape: [1], data: [0] }] });

/** What the loads of the fake pods take, and took. */
interface Loads {
  loadMs: number;
  /** When set, loads end when it does. */
  gate: Promise<void> | undefined;
  readonly tookMs: Map<string, number>;
}

async function runMiss(context: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const { say, envoyBinary, misses } = context;
  const loads: Loads = { loadMs: 0, gate: undefined, tookMs: new Map() };
  const registered = hotModels + warmups + misses + parked;
  say(`starting Envoy, a gateway and ${podCount} pods that only say what they hold; ${registered} models`);
  const fleet = await openFakeFleet(
    { envoyBinary, registered, copies: buildHoldings(), load: createLoad(loads, () => fleet) },
    signal,
    stack,
  );
  await waitFor("the first routes", signal, async () => (await fleet.management.stats())?.warm === hotModels);
  let next = hotModels;
  const take = (count: number): readonly string[] => Array.from({ length: count }, () => modelName(next++));
  let failed = 0;
  const ask = async (models: readonly string[], clients: number): Promise<Asked> => {
    const asked = await askEach(fleet.hit, models.map(requestFor), clients, signal);
    failed += asked.failed;
    if (asked.failed > 0) say(`${asked.failed} of ${models.length} requests failed: ${asked.reasons.join("; ")}`);
    return asked;
  };

  await ask(take(warmups), clients);
  const hot = Array.from({ length: hits }, (_, at) => modelName(at % hotModels));
  await ask(hot, 1);
  const hitP50Ms = percentile(answeredMs(await ask(hot, 1)), 0.5);
  const half = Math.min(mostAlone, Math.max(leastAlone, Math.round((misses * aloneShare) / 2)));
  const cpu = { gateway: readCpuNs(fleet.gatewayPid), envoy: readCpuNs(fleet.envoyPid) };
  const overheads = async (count: number, clients: number, loadMs: number): Promise<readonly number[]> => {
    loads.loadMs = loadMs;
    say(`${count} misses, ${clients} at a time, loads of ${loadMs} ms`);
    const models = take(count);
    const { tookMs } = await ask(models, clients);
    const over = models.flatMap((model, at) => {
      const ms = tookMs[at];
      return ms === undefined ? [] : [ms - (loads.tookMs.get(model) ?? 0) - hitP50Ms];
    });
    loads.tookMs.clear();
    return over;
  };
  const at0 = await overheads(half, 1, 0);
  const at20 = await overheads(half, 1, slowLoadMs);
  const busyCount = misses - 2 * half;
  const startedMs = performance.now();
  const busy = await overheads(busyCount, clients, 0);
  const busySeconds = (performance.now() - startedMs) / 1_000;
  const cpuMs = (pid: number, beforeNs: number): number => (readCpuNs(pid) - beforeNs) / 1e6 / misses;
  const gatewayCpuMs = cpuMs(fleet.gatewayPid, cpu.gateway);
  const envoyCpuMs = cpuMs(fleet.envoyPid, cpu.envoy);

  say(`${parked} requests at once`);
  const park = await measureParked(fleet, loads, take(parked), signal);
  failed += park.parkedFailed;
  const extProcErrors = await readErrors(fleet, signal);
  const alone = [...at0, ...at20];
  context.keep({
    title: "What a miss takes beyond its load",
    x: shareAxis,
    y: { label: "ms beyond the load and a hit", scale: "log" },
    lines: Object.entries({
      "one at a time, loads of 0 ms": at0,
      [`one at a time, loads of ${slowLoadMs} ms`]: at20,
      [`${clients} at a time, loads of 0 ms`]: busy,
    }).map(([name, times]) => latencyLine(name, [quantilesOf(times.map((ms) => Math.max(0.01, ms)))])),
  });
  return {
    misses,
    failed,
    extProcErrors,
    overheadP50Ms: roundTo(percentile(alone, 0.5), 2),
    overheadP99Ms: roundTo(percentile(alone, 0.99), 2),
    overheadAt0P50Ms: roundTo(percentile(at0, 0.5), 2),
    overheadAt20P50Ms: roundTo(percentile(at20, 0.5), 2),
    busyOverheadP50Ms: roundTo(percentile(busy, 0.5), 2),
    busyOverheadP99Ms: roundTo(percentile(busy, 0.99), 2),
    missesPerSecond: Math.round(busyCount / busySeconds),
    hitP50Ms: roundTo(hitP50Ms, 3),
    gatewayCpuMsPerMiss: roundTo(gatewayCpuMs, 3),
    envoyCpuMsPerMiss: roundTo(envoyCpuMs, 3),
    ...park,
  };
}

/** Envoy is still busy with what was parked: its admin may not answer at once. */
async function readErrors({ management }: FakeFleet, signal: AbortSignal): Promise<number> {
  let errors: number | undefined;
  await waitFor("Envoy's statistics", signal, async () => {
    errors = (await management.stats())?.extProcErrors;
    return errors !== undefined;
  });
  return errors ?? Number.NaN;
}

function buildHoldings() {
  const copy = (at: number) => ({ model: modelName(at), revision: "r1", slot: 0, state: CopyState.READY, sizeBytes: 100_000n });
  return Array.from({ length: podCount }, (_, pod) =>
    Array.from({ length: hotModels }, (_, at) => at)
      .filter((at) => at % podCount === pod)
      .map(copy),
  );
}

function createLoad(loads: Loads, fleet: () => FakeFleet): (podId: string, revision: Revision) => Promise<void> {
  const kept = new Map<string, string[]>();
  return async (podId, { model }) => {
    const startedMs = performance.now();
    const models = kept.get(podId) ?? [];
    kept.set(podId, models);
    models.push(model);
    const oldest = models.length > keptPerPod && loads.gate === undefined ? models.shift() : undefined;
    if (oldest !== undefined) {
      const pod = fleet().pods.find((each) => each.podId === podId);
      pod?.tell([{ model: oldest, revision: "r1", slot: 0, state: CopyState.GONE, sizeBytes: 100_000n }]);
    }
    await loads.gate;
    if (loads.loadMs > 0) await sleep(loads.loadMs);
    loads.tookMs.set(model, performance.now() - startedMs);
  };
}

interface Parked {
  readonly parkedMax: number;
  readonly parkedFailed: number;
  readonly parkedReleaseMs: number;
}

async function measureParked(
  fleet: FakeFleet,
  loads: Loads,
  models: readonly string[],
  signal: AbortSignal,
): Promise<Parked & Record<string, number>> {
  const gate = Promise.withResolvers<void>();
  loads.gate = gate.promise;
  loads.loadMs = 0;
  let ended = false;
  const asking = askAtOnce(fleet.hit, models.map(requestFor), signal).finally(() => {
    ended = true;
  });
  asking.catch(() => undefined);
  let parkedMax = 0;
  await waitFor("the parked requests", signal, async () => {
    parkedMax = Math.max(parkedMax, (await fleet.management.stats())?.waiting ?? 0);
    return parkedMax >= models.length || ended;
  });
  const startedMs = performance.now();
  gate.resolve();
  const { failed, reasons } = await asking;
  if (failed > 0) process.stderr.write(`${failed} parked requests failed: ${reasons.join("; ")}\n`);
  return { parkedMax, parkedFailed: failed, parkedReleaseMs: Math.round(performance.now() - startedMs) };
}

function requestFor(model: string): Http1Request {
  return { path: `/v2/models/${model}/infer`, body };
}

function answeredMs({ tookMs }: Asked): readonly number[] {
  return tookMs.filter((ms) => ms !== undefined);
}
