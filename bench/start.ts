// Owns the benchmark `start`: what a user sees who starts everything with traffic, as a command of its own.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { findFreePorts } from "#cli/up/ports.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { runCommand } from "./command.ts";

export const startBenchmark: Benchmark = {
  name: "start",
  command: "npm start -- --for 30s --json",
  summary: "ten thousand models on two pods that hold some three hundred of them, zipf-distributed traffic, every answer checked",
  figures: {
    models: "registered models",
    capacityModels: "how many of them fit at once",
    requests: "requests of 16 clients that each wait for their answer",
    failed: "requests without an answer",
    wrong: "answers that are not the expected prediction",
    hits: "requests that found their model warm",
    hitP50Ms: "what a client saw of a hit, inference included: half are faster",
    hitP99Ms: "the same that 99 of 100 do not exceed",
    misses: "requests that waited for their model",
    missP50Ms: "what a client saw of a miss, its load included: half are faster",
    missP99Ms: "the same that 99 of 100 do not exceed",
    loads: "loads",
    evictions: "evictions",
    javascriptRequests: "requests that JavaScript of gateway or adapter handled; equals the misses",
  },
  run: runStart,
};

const schema = z.record(z.string(), z.unknown());

async function runStart(context: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const { path } = stack.use(await openRunFolder());
  const [http, grpc, admin] = (await findFreePorts("127.0.0.1", 12)).slice(9);
  const flags = { "http-port": http, "grpc-port": grpc, "admin-port": admin, state: join(path, "state") };
  const main = fileURLToPath(new URL("../cli/main.ts", import.meta.url));
  const given = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`]);
  const last = await runCommand(
    "start",
    [main, "up", "--for", context.quick ? "5s" : "30s", "--json", ...given],
    context.say,
    signal,
  );
  const figures = schema.parse(JSON.parse(last));
  return Object.fromEntries(
    Object.keys(startBenchmark.figures).flatMap((name) => {
      const value = figures[name];
      return typeof value === "number" ? [[name, Math.round(value * 100) / 100]] : [];
    }),
  );
}
