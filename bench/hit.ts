// Owns the benchmark `hit`: what the way of a warm model's request through Envoy costs, held against a plain static route
// of the same Envoy and against the model server without any Envoy.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openOracle } from "#cli/library/oracle.ts";
import type { Wire } from "./addresses.ts";
import type { Benchmark, BenchmarkContext } from "./benchmark.ts";
import { type BenchFleet, openBenchFleet, type PathName } from "./fleet.ts";
import type { LoadResult } from "./load/plan.ts";
import { type LoadProcess, openLoadProcess } from "./load/process.ts";
import { latencyLine, shareAxis } from "./plot.ts";
import { buildRequestFile, chooseCases } from "./requests.ts";
import { runRounds, type Samples } from "./rounds.ts";
import { median, medianRatio, ratiosOf, roundTo } from "./stats.ts";
import { warm } from "./warm.ts";

export const hitBenchmark: Benchmark = {
  name: "hit",
  summary: "a warm model's request through Envoy, beside a plain static route and the model server alone",
  figures: {
    envoyCpuRatio: "Envoy CPU per hit over Envoy CPU per request of the static route, REST; median of the ratios of each round",
    envoyCpuRatioLow: "the lowest of these ratios",
    envoyCpuRatioHigh: "the highest of them",
    envoyCpuHitUs: "processor time of all Envoy's threads per hit, in microseconds, access logs to the gateway included",
    envoyCpuStaticUs: "the same per request of the static route: plain listener, one prefix route, same Envoy, same pod",
    hitRps: "hits a second, REST, 8 clients that each wait for their answer",
    staticRps: "the same over the static route",
    directRps: "the same straight to the model server",
    hitP50Ms: "time of a hit in milliseconds, REST, one client alone: half are faster",
    staticP50Ms: "the same over the static route",
    directP50Ms: "the same straight to the model server",
    hitP99Ms: "time of a hit that 99 of 100 do not exceed, one client alone",
    staticP99Ms: "the same over the static route",
    directP99Ms: "the same straight to the model server",
    grpcEnvoyCpuRatio: "as envoyCpuRatio over gRPC, where Envoy reads the model's name from the message",
    grpcEnvoyCpuHitUs: "as envoyCpuHitUs over gRPC",
    grpcEnvoyCpuStaticUs: "as envoyCpuStaticUs over gRPC",
    grpcHitRps: "hits a second over gRPC, 8 calls at a time on one connection",
    grpcStaticRps: "the same over the static route",
    grpcDirectRps: "the same straight to the model server",
    modelServerCpuUs: "processor time of the model server per REST request straight to it",
    gatewayCpuHitUs: "processor time of the gateway per hit: it reads the sampled access logs",
    gatewayCpuShare: "share of a core that the gateway takes while hits come at hitRps",
    gatewayIdleCpuShare: "the same while there are none, in the rounds of the static route",
    javascriptRequests: "requests of the measured rounds that the gateway handled; a hit is none",
    models: "warm models in Envoy's table, asked in turn",
    rounds: "rounds, in each of which every path has its turn; all figures are medians over them",
  },
  run: runHit,
};

const clients = 8;
const measureMs = 1_000;
/** The gateway lowers the share of hits that Envoy logs when their rate grows; it looks once a second. */
const hitSettleMs = 2_000;
const settleMs = 300;
/** What the models of the library take at most, with room. */
const bytesPerModel = 512 * 1_024;

async function runHit(
  context: BenchmarkContext,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<Record<string, number>> {
  const { say, rounds } = context;
  const oracle = await openOracle(context.libraryFolder);
  const cases = chooseCases(oracle, context.models);
  say(`starting Envoy, a gateway and one pod`);
  const fleet = await openBenchFleet({ ...context, capacityBytes: cases.length * bytesPerModel }, signal, stack);
  const requestFile = join(fleet.folder, "requests.json");
  await writeFile(requestFile, JSON.stringify(buildRequestFile(cases)));
  const load = stack.use(openLoadProcess(requestFile));
  say(`loading ${cases.length} models`);
  await warm(fleet, cases, signal);
  const before = await fleet.management.stats();
  if (before === undefined) throw new Error("the gateway does not answer");

  const runner = createRunner(fleet, load, signal);
  const tell = (what: string, of: number) => (round: number) => say(`${what}: round ${round} of ${of}`);
  const busy = await runRounds(rounds, (path) => runner("rest", path, clients), tell("REST", rounds));
  const alone = await runRounds(rounds, (path) => runner("rest", path, 1), tell("REST, one client", rounds));
  const grpc = await runRounds(rounds, (path) => runner("grpc", path, clients), tell("gRPC", rounds));

  const after = await fleet.management.stats();
  const curves = (title: string, samples: Samples): void =>
    context.keep({
      title,
      x: shareAxis,
      y: { label: "time of a request, ms", scale: "log" },
      lines: Object.entries({ hit: "hit", static: "static route", direct: "straight to the model server" } as const).map(
        ([path, name]) =>
          latencyLine(
            name,
            samples[path as PathName].map(({ quantilesMs }) => quantilesMs),
          ),
      ),
    });
  curves("REST, one client alone", alone);
  curves(`REST, ${clients} clients that each wait for their answer`, busy);
  curves(`gRPC, ${clients} calls at a time on one connection`, grpc);
  return {
    ...summarise(busy, alone, grpc),
    javascriptRequests: (after?.javascriptRequests ?? Number.NaN) - before.javascriptRequests,
    models: before.warm,
    rounds,
  };
}

function createRunner(fleet: BenchFleet, load: LoadProcess, signal: AbortSignal) {
  const { envoy, gateway, modelServer } = fleet.pids;
  return (wire: Wire, path: PathName, concurrency: number): Promise<LoadResult> =>
    load.run(
      {
        wire,
        requests: wire,
        ...fleet.ports[path][wire],
        concurrency,
        settleMs: path === "hit" && concurrency > 1 ? hitSettleMs : settleMs,
        measureMs,
        watchedPids: [envoy, gateway, modelServer],
      },
      signal,
    );
}

export function summarise(busy: Samples, alone: Samples, grpc: Samples): Record<string, number> {
  const ratios = ratiosOf(cpuUs(busy.hit, envoyAt), cpuUs(busy.static, envoyAt));
  return {
    envoyCpuRatio: roundTo(median(ratios), 3),
    envoyCpuRatioLow: roundTo(Math.min(...ratios), 3),
    envoyCpuRatioHigh: roundTo(Math.max(...ratios), 3),
    envoyCpuHitUs: roundTo(median(cpuUs(busy.hit, envoyAt)), 1),
    envoyCpuStaticUs: roundTo(median(cpuUs(busy.static, envoyAt)), 1),
    hitRps: rps(busy.hit),
    staticRps: rps(busy.static),
    directRps: rps(busy.direct),
    hitP50Ms: p50(alone.hit),
    staticP50Ms: p50(alone.static),
    directP50Ms: p50(alone.direct),
    hitP99Ms: p99(alone.hit),
    staticP99Ms: p99(alone.static),
    directP99Ms: p99(alone.direct),
    grpcEnvoyCpuRatio: roundTo(medianRatio(cpuUs(grpc.hit, envoyAt), cpuUs(grpc.static, envoyAt)), 3),
    grpcEnvoyCpuHitUs: roundTo(median(cpuUs(grpc.hit, envoyAt)), 1),
    grpcEnvoyCpuStaticUs: roundTo(median(cpuUs(grpc.static, envoyAt)), 1),
    grpcHitRps: rps(grpc.hit),
    grpcStaticRps: rps(grpc.static),
    grpcDirectRps: rps(grpc.direct),
    modelServerCpuUs: roundTo(median(cpuUs(busy.direct, modelServerAt)), 1),
    gatewayCpuHitUs: roundTo(median(cpuUs(busy.hit, gatewayAt)), 1),
    gatewayCpuShare: roundTo(median(cpuShare(busy.hit, gatewayAt)), 4),
    gatewayIdleCpuShare: roundTo(median(cpuShare(busy.static, gatewayAt)), 4),
  };
}

/** Places in the watched processes. */
const envoyAt = 0;
const gatewayAt = 1;
const modelServerAt = 2;

function cpuUs(results: readonly LoadResult[], at: number): readonly number[] {
  return results.map(({ cpuNs, requests }) => (cpuNs[at] ?? Number.NaN) / requests / 1_000);
}

function cpuShare(results: readonly LoadResult[], at: number): readonly number[] {
  return results.map(({ cpuNs, seconds }) => (cpuNs[at] ?? Number.NaN) / 1e9 / seconds);
}

function rps(results: readonly LoadResult[]): number {
  return Math.round(median(results.map(({ requests, seconds }) => requests / seconds)));
}

function p50(results: readonly LoadResult[]): number {
  return roundTo(median(results.map(({ p50Ms }) => p50Ms)), 3);
}

function p99(results: readonly LoadResult[]): number {
  return roundTo(median(results.map(({ p99Ms }) => p99Ms)), 3);
}
