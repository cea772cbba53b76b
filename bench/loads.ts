// Owns the benchmark of loads: what an adapter adds to a model server's own load, how many it does, how fast it fetches, and
// what it takes to remember many.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { createOnnxDriver } from "#adapters/drivers/onnx.ts";
import { systemClock } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { addConstantGraph } from "#runtimes/onnx/testing/graphs.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { readMemory } from "./fakefleet.ts";
import { type LoadClient, openLoadClient } from "./loads/client.ts";
import { measureMlserver } from "./loads/mlserver.ts";
import { openBenchAdapter, openModelServer, openScriptedServer } from "./loads/pod.ts";
import { measurePulls } from "./loads/pull.ts";
import { median, orderOfRound, percentile, roundTo } from "./stats.ts";

const pairs = 50;
const burst = 200;
const held = 20_000;
const heldAtOnce = 500;
const heldBytes = 100_000;

export const loadBenchmark: Benchmark = {
  name: "load",
  summary: "cold loads on one pod: the adapter beside the model server, fetching, and its memory",
  figures: {
    adapterOverheadP50Ms:
      "a tiny model over the Link until it is told ready, less the server's own load of its like in turn; medians",
    serverLoadP50Ms: "of these the server's own load, over its management socket",
    loadsPerSecond: `tiny ONNX models on one pod, ${burst} asked for at once; median of the rounds`,
    pullRatio: "64 MiB from a real server of Google's API: as fast as its own client alone is 1; median of the rounds",
    pullRatioS3: "the same from a real server of S3's API, whose client makes one request as ours does",
    mlserverLoadP50Ms: "one more scikit-learn model on a real MLServer that holds 1,000; median of 100",
    adapterRssBytes: `memory of the adapter's process that holds ${held} models, beside a scripted model server`,
  },
  run,
};

async function run({ rounds, say }: BenchmarkContext, signal: AbortSignal): Promise<Figures> {
  const loads = await measureLoads(rounds, signal, say);
  const pullRatio = await measurePulls("gcs", rounds, signal, say);
  const pullRatioS3 = await measurePulls("s3", rounds, signal, say);
  const mlserverLoadP50Ms = await measureMlserver(signal, say);
  const adapterRssBytes = await measureMemory(signal, say);
  return {
    ...loads,
    pullRatio: roundTo(pullRatio, 2),
    pullRatioS3: roundTo(pullRatioS3, 2),
    mlserverLoadP50Ms: roundTo(mlserverLoadP50Ms, 1),
    adapterRssBytes,
  };
}

async function measureLoads(rounds: number, signal: AbortSignal, say: (line: string) => void): Promise<Figures> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await openRunFolder()).path;
  const models = join(folder, "models");
  await mkdir(models);
  const socket = await openModelServer(folder, stack);
  const { linkAddress } = await openBenchAdapter(folder, socket, stack);
  const client = stack.use(openLoadClient(linkAddress));
  const driver = stack.use(createOnnxDriver({ adminSocket: socket, clock: systemClock }));
  await client.linked;
  let number = 0;
  const next = async (): Promise<{ readonly name: string; readonly path: string }> => {
    const name = `m${number++}`;
    const path = join(models, `${name}.onnx`);
    await writeFile(path, addConstantGraph(number));
    return { name, path };
  };
  const direct = async (): Promise<number> => {
    const { name: serverName, path } = await next();
    const startMs = performance.now();
    const loaded = await driver.load({ serverName, revision: "r1", path, format: "onnx", expectedBytes: 0, signal });
    const tookMs = performance.now() - startMs;
    if (loaded.kind === "failed") throw new Error(loaded.reason);
    await driver.unload(serverName, signal);
    return tookMs;
  };
  const linked = async (): Promise<number> => {
    const { name, path } = await next();
    const startMs = performance.now();
    await client.load(name, pathToFileURL(path).href);
    return performance.now() - startMs;
  };
  const times = { direct: [] as number[], linked: [] as number[] };
  const ways = { direct, linked };
  for (let pair = 0; pair < pairs * rounds; pair++) {
    signal.throwIfAborted();
    for (const way of orderOfRound(["direct", "linked"] as const, pair)) times[way].push(await ways[way]());
  }
  say(`loads: ${pairs * rounds} one by one`);
  const rates: number[] = [];
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted();
    const wanted: Awaited<ReturnType<typeof next>>[] = [];
    while (wanted.length < burst) wanted.push(await next());
    const startMs = performance.now();
    await Promise.all(wanted.map(({ name, path }) => client.load(name, pathToFileURL(path).href)));
    rates.push((burst * 1_000) / (performance.now() - startMs));
    say(`loads: round ${round + 1} of ${rounds}`);
  }
  const serverLoadP50Ms = percentile(times.direct, 0.5);
  return {
    adapterOverheadP50Ms: roundTo(percentile(times.linked, 0.5) - serverLoadP50Ms, 2),
    serverLoadP50Ms: roundTo(serverLoadP50Ms, 2),
    loadsPerSecond: Math.round(median(rates)),
  };
}

async function measureMemory(signal: AbortSignal, say: (line: string) => void): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await openRunFolder()).path;
  const artefact = join(folder, "model.onnx");
  await writeFile(artefact, addConstantGraph(1));
  const socket = await openScriptedServer(folder, heldBytes, stack);
  const { linkAddress, pid } = await openBenchAdapter(folder, socket, stack);
  const client = stack.use(openLoadClient(linkAddress));
  await client.linked;
  for (let from = 0; from < held; from += heldAtOnce) {
    signal.throwIfAborted();
    await loadAll(client, from, pathToFileURL(artefact).href);
  }
  say(`memory: ${held} models are held`);
  return (await readMemory(pid)).rssBytes;
}

async function loadAll(client: LoadClient, from: number, storageUri: string): Promise<void> {
  await Promise.all(Array.from({ length: heldAtOnce }, (_, at) => client.load(`a-model-of-a-tenant-${from + at}`, storageUri)));
}
