// Owns the benchmark `parts`: what each part of the hit path costs Envoy, by leaving it away.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openOracle } from "#cli/library/oracle.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { openBenchFleet } from "./fleet.ts";
import { openLoadProcess } from "./load/process.ts";
import { addParts, type PartName, partNames, parts } from "./parts/listeners.ts";
import { buildRequestFile, chooseCases } from "./requests.ts";
import { median, orderOfRound, roundTo } from "./stats.ts";
import { warm } from "./warm.ts";

const figures: Readonly<Record<PartName | "restStatic" | "grpcStatic", string>> = {
  rest: "a REST hit; this and all below is processor time of Envoy per request, in microseconds, medians over rounds",
  restStatic: "a plain static route, REST",
  restWithoutRetries: "a REST hit without any retry or reroute",
  restWithoutHedging: "without the timer after which a silent pod is hedged",
  restWithoutAccessLog: "without the sampled access log",
  restWithoutEdge: "without what is done to headers and paths at the edge",
  restWithoutScopes: "one route configuration in place of scopes",
  restWithFilters: "with the naming filter and what else stands before the router made for each hit",
  restWithStatistics: "with the router's statistics per answer code",
  restByGrpc: "put into gRPC, and its answer back, for a pod that has gRPC alone",
  grpc: "a gRPC hit",
  grpcStatic: "a plain static route, gRPC",
  grpcWithoutRetries: "a gRPC hit without any retry or reroute",
  grpcWithoutHedging: "without the timer after which a silent pod is hedged",
  grpcWithoutAccessLog: "without the sampled access log",
  grpcWithoutExtraction: "without the filter that reads the first message of streams",
  grpcWithMissFilter: "with the miss filter made for each request and switched off on a hit",
  grpcWithoutScript: "without the naming script and scopes",
  grpcWithEmptyScript: "without scopes and with a naming script that does nothing",
};

export const partsBenchmark: Benchmark = {
  name: "parts",
  summary: "what each part of the hit path costs Envoy: the same listener without it, all in one Envoy and in turn",
  figures: { ...figures, rounds: "rounds, in each of which every listener has its turn" },
  run: runParts,
};

const clients = 8;
const measureMs = 1_000;
const settleMs = 500;
const bytesPerModel = 512 * 1_024;
const host = "127.0.0.1";

async function runParts(context: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const { say, rounds } = context;
  const oracle = await openOracle(context.libraryFolder);
  const cases = chooseCases(oracle, Math.min(context.models, 50));
  const ports = await findFreePorts(host, 16 + partNames.length);
  const at = Object.fromEntries(partNames.map((name, index) => [name, { host, port: ports[16 + index] ?? 0 }])) as Record<
    PartName,
    { host: string; port: number }
  >;
  const names = cases.map(({ model }) => model);
  const fleet = await openBenchFleet(
    {
      ...context,
      capacityBytes: cases.length * bytesPerModel,
      edit: (bootstrap, pod) => addParts(bootstrap, pod, names, at),
    },
    signal,
    stack,
  );
  const requestFile = join(fleet.folder, "requests.json");
  await writeFile(requestFile, JSON.stringify(buildRequestFile(cases)));
  const load = stack.use(openLoadProcess(requestFile));
  say(`loading ${cases.length} models`);
  await warm(fleet, cases, signal);

  const paths = {
    ...Object.fromEntries(partNames.map((name) => [name, { wire: parts[name].wire, ...at[name] }])),
    restStatic: { wire: "rest" as const, ...fleet.ports.static.rest },
    grpcStatic: { wire: "grpc" as const, ...fleet.ports.static.grpc },
  } as Readonly<Record<keyof typeof figures, { wire: "rest" | "grpc"; host: string; port: number }>>;
  const all = Object.keys(figures) as (keyof typeof figures)[];
  const samples = new Map(all.map((name) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    for (const name of orderOfRound(all, round)) {
      const path = paths[name];
      const result = await load.run(
        { ...path, requests: path.wire, concurrency: clients, settleMs, measureMs, watchedPids: [fleet.pids.envoy] },
        signal,
      );
      if (result.failed > 0) throw new Error(`${name}: ${result.failed} requests failed: ${result.reasons.join("; ")}`);
      samples.get(name)?.push((result.cpuNs[0] ?? Number.NaN) / result.requests / 1_000);
    }
    say(`round ${round + 1} of ${rounds}`);
  }
  return { ...Object.fromEntries([...samples].map(([name, values]) => [name, roundTo(median(values), 1)])), rounds };
}
