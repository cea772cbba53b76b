// Owns the benchmark `tracing`: what it costs Envoy to write spans of hits. Fleets side by side that trace nothing, one
// request of a hundred and every one, each held to a plain static route in its own Envoy, so that what the machine does
// meanwhile meets all of them.
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { openOracle } from "#cli/library/oracle.ts";
import { sleep } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import type { Benchmark, BenchmarkContext } from "./benchmark.ts";
import { type BenchFleet, openBenchFleet } from "./fleet.ts";
import type { LoadResult } from "./load/plan.ts";
import { type LoadProcess, openLoadProcess } from "./load/process.ts";
import { buildRequestFile, chooseCases } from "./requests.ts";
import { median, medianRatio, orderOfRound, roundTo } from "./stats.ts";

export const tracingBenchmark: Benchmark = {
  name: "tracing",
  summary: "what traces cost Envoy on the way of a hit: none, one request of a hundred, every one",
  figures: {
    envoyCpuRatioHundredth: "Envoy CPU per REST hit with one of a hundred traced, over a hit of a fleet without traces",
    envoyCpuRatioAll: "the same with every one traced",
    envoyCpuOffUs: "processor time of all Envoy's threads per hit without traces, in microseconds",
    envoyCpuHundredthUs: "the same with one of a hundred traced",
    envoyCpuAllUs: "the same with every one traced",
    spanBytes: "bytes of spans that the collector got for each traced hit",
    javascriptRequests: "requests of the measured rounds that gateways handled; a hit is none, traced or not",
    models: "warm models of each fleet, asked in turn",
    rounds: "rounds, in each of which every fleet has its turn; figures are medians over them",
  },
  run: runTracing,
};

const clients = 8;
const measureMs = 1_000;
const settleMs = 1_500;
const warmMs = 60_000;
const bytesPerModel = 512 * 1_024;
const shares = { off: undefined, hundredth: 0.01, all: 1 } as const;

type Name = keyof typeof shares;
const names = Object.keys(shares) as readonly Name[];

interface Case {
  readonly fleet: BenchFleet;
  readonly load: LoadProcess;
}

async function runTracing(
  context: BenchmarkContext,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<Record<string, number>> {
  const { say, rounds } = context;
  const { path: folder } = stack.use(await openRunFolder());
  const oracle = await openOracle(context.libraryFolder);
  const models = chooseCases(oracle, Math.min(context.models, 100));
  const requestFile = join(folder, "requests.json");
  await writeFile(requestFile, JSON.stringify(buildRequestFile(models)));
  const sink = await openSink(stack);
  const open = async (name: Name): Promise<Case> => {
    say(`starting the fleet '${name}'`);
    const share = shares[name];
    const edge = share === undefined ? {} : { tracing: { endpoint: sink.endpoint, protocol: "http" as const, share } };
    const fleet = await openBenchFleet({ ...context, capacityBytes: models.length * bytesPerModel, edge }, signal, stack);
    const one = { fleet, load: stack.use(openLoadProcess(requestFile)) };
    await warm(one, models.length, signal);
    return one;
  };
  const cases = { off: await open("off"), hundredth: await open("hundredth"), all: await open("all") };
  const before = await handled(cases);
  const samples: Record<Name, { readonly hit: number; readonly static: number }[]> = { off: [], hundredth: [], all: [] };
  let traced = 0;
  const bytesBefore = sink.bytes;
  for (let round = 0; round < rounds; round++) {
    for (const name of orderOfRound(names, round)) {
      const result = await run(cases[name], "hit", signal);
      const share = shares[name] ?? 0;
      // The settling before the window is traced as well, at the same rate.
      traced += share * result.requests * (1 + settleMs / measureMs);
      samples[name].push({ hit: cpuUs(result), static: cpuUs(await run(cases[name], "static", signal)) });
    }
    say(`round ${round + 1} of ${rounds}`);
  }
  const relative = (name: Name): readonly number[] => samples[name].map((sample) => sample.hit / sample.static);
  const microseconds = (name: Name): number => roundTo(median(samples[name].map(({ hit }) => hit)), 1);
  return {
    envoyCpuRatioHundredth: roundTo(medianRatio(relative("hundredth"), relative("off")), 3),
    envoyCpuRatioAll: roundTo(medianRatio(relative("all"), relative("off")), 3),
    envoyCpuOffUs: microseconds("off"),
    envoyCpuHundredthUs: microseconds("hundredth"),
    envoyCpuAllUs: microseconds("all"),
    spanBytes: Math.round((sink.bytes - bytesBefore) / traced),
    javascriptRequests: (await handled(cases)) - before,
    models: models.length,
    rounds,
  };
}

/** Takes spans and forgets them. */
async function openSink(stack: AsyncDisposableStack): Promise<{ readonly endpoint: string; readonly bytes: number }> {
  let bytes = 0;
  const server = createServer((request, response) => {
    request.on("data", (chunk: Buffer) => (bytes += chunk.length));
    request.once("end", () => response.writeHead(200, { "content-type": "application/x-protobuf" }).end());
    request.once("error", () => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get bytes() {
      return bytes;
    },
  };
}

async function run({ fleet, load }: Case, path: "hit" | "static", signal: AbortSignal): Promise<LoadResult> {
  const result = await load.run(
    {
      wire: "rest",
      requests: "rest",
      ...fleet.ports[path].rest,
      concurrency: clients,
      settleMs,
      measureMs,
      watchedPids: [fleet.pids.envoy],
    },
    signal,
  );
  if (result.failed > 0) throw new Error(`${path}: ${result.failed} requests failed: ${result.reasons.join("; ")}`);
  return result;
}

async function warm(one: Case, models: number, signal: AbortSignal): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(warmMs)]);
  for (;;) {
    const before = (await one.fleet.management.stats())?.javascriptRequests;
    await run(one, "hit", signal);
    const after = await one.fleet.management.stats();
    if (after?.javascriptRequests === before && (after?.warm ?? 0) >= models) return;
    await sleep(50, deadline);
  }
}

async function handled(cases: Readonly<Record<Name, Case>>): Promise<number> {
  let sum = 0;
  for (const { fleet } of Object.values(cases)) sum += (await fleet.management.stats())?.javascriptRequests ?? Number.NaN;
  return sum;
}

function cpuUs({ cpuNs, requests }: LoadResult): number {
  return (cpuNs[0] ?? Number.NaN) / requests / 1_000;
}
