// Owns the benchmark `registry`: a million models in a real etcd, and a gateway that starts and lists them all, in pages.
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { nodeProgram } from "#cli/up/processes.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { superviseProcess } from "#platform/process.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { parseRegistryTarget } from "#platform/registry/target.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { openEtcd } from "#test/harness/etcd.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { modelName, readMemory, registerModels } from "./fakefleet.ts";
import { median, percentile, roundTo } from "./stats.ts";

export const registryBenchmark: Benchmark = {
  name: "registry",
  summary: "a gateway that starts with a million models in a real etcd",
  figures: {
    models: "registered models, each with one revision",
    startSeconds: "from the gateway's start until it has listed them all and is ready; median",
    modelsPerSecond: "models listed in a second of that time",
    gatewayRssBytes: "resident memory of the gateway then",
    registerP50Ms: "a model is registered: until etcd has it; half are faster",
    registerP99Ms: "the same that 99 of 100 do not exceed; 500 one after another",
    fillSeconds: "time to write all of them before, many to a transaction",
    starts: "starts that were measured",
  },
  run: runRegistry,
};

const starts = 3;
const singles = 500;
const readyTimeoutMs = 300_000;

async function runRegistry({ quick, say }: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const models = quick ? 20_000 : 1_000_000;
  const etcd = stack.use(await openEtcd({ flags: ["--quota-backend-bytes", String(4 * 2 ** 30)] }));
  const address = `etcd://${etcd.address}/bench`;
  const registry = stack.use(await openRegistry(parseRegistryTarget({ registry: address })));
  say(`writing ${models} models to etcd`);
  const fillMs = performance.now();
  await registerModels(registry, 0, models, signal);
  const fillSeconds = (performance.now() - fillMs) / 1_000;
  const took: number[] = [];
  for (let at = 0; at < singles; at++) {
    const fromMs = performance.now();
    await registerModels(registry, models + at, 1, signal);
    took.push(performance.now() - fromMs);
  }
  const seconds: number[] = [];
  const memory: number[] = [];
  for (let round = 0; round < starts; round++) {
    const { path: folder } = stack.use(await openRunFolder());
    const startedMs = performance.now();
    await using gateway = superviseProcess({
      name: "gateway",
      ...nodeProgram("gateway/main.ts", {
        "gateway-id": "gateway-0",
        socket: join(folder, "gateway.sock"),
        registry: address,
        "admin-port": 0,
        "log-level": "warn",
      }),
      restart: { kind: "never" },
      readyLine: /^\{"ready":true/,
      readyTimeoutMs,
      onOutput: writeTo(join(folder, "gateway.log")),
    });
    await gateway.ready;
    seconds.push((performance.now() - startedMs) / 1_000);
    if (gateway.pid === undefined) throw new StartupError("the gateway does not run");
    memory.push((await readMemory(gateway.pid)).rssBytes);
    say(`start ${round + 1} of ${starts}: ${seconds.at(-1)?.toFixed(1)} s, last model ${modelName(models + singles - 1)}`);
  }
  return {
    models: models + singles,
    startSeconds: roundTo(median(seconds), 2),
    modelsPerSecond: Math.round(models / median(seconds)),
    gatewayRssBytes: median(memory),
    registerP50Ms: roundTo(median(took), 2),
    registerP99Ms: roundTo(percentile(took, 0.99), 2),
    fillSeconds: roundTo(fillSeconds, 1),
    starts,
  };
}

function writeTo(file: string): (line: string) => void {
  const output = createWriteStream(file);
  return (line) => void output.write(`${line}\n`);
}
