// Owns the benchmark of the controller: many InferenceServices against a real API server and etcd, a real gateway and real
// pods of this machine that load each of their models once.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { request } from "undici";
import { z } from "zod";
import { createKubeClient } from "#controller/engine/client.ts";
import { record } from "#controller/engine/objects.ts";
import { createReflector } from "#controller/engine/reflector.ts";
import { inferenceServices } from "#controller/kinds.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { silentLog } from "#platform/log.ts";
import { superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { openFleet } from "#test/harness/fleet.ts";
import { buildSmallLibrary } from "#test/harness/setup.ts";
import { openControlPlane } from "#test/kubernetes/harness/controlplane.ts";
import { applyCrds } from "#test/kubernetes/harness/crds.ts";
import { buildInferenceService, onnxRuntime } from "#test/kubernetes/harness/objects.ts";
import { whyNoControlPlane } from "#test/kubernetes/harness/programs.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";

const atOnce = 32;
const limitMs = 1_800_000;
const tellEveryMs = 10_000;

export const controllerBenchmark: Benchmark = {
  name: "controller",
  summary: "many InferenceServices at once: until each is loaded and says so",
  figures: {
    objects: "InferenceServices that were created, by 32 clients at once",
    readySeconds: "from the first creation until the last one is Ready",
    createSeconds: "of these, until all were created",
    writesPerObject: "calls of the controller that changed something in the API server, for each object",
    rssBytes: "memory of the controller's process, at its highest",
  },
  run,
};

async function run(context: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const reason = whyNoControlPlane();
  if (reason !== undefined) throw new StartupError(reason);
  const { objects, say } = context;
  say("starting etcd, the API server and a fleet");
  const folder = stack.use(await openRunFolder()).path;
  const libraryFolder = await buildSmallLibrary(folder);
  const plane = stack.use(await openControlPlane());
  await applyCrds(plane.kubectl);
  const fleet = stack.use(await openFleet({ pods: 2, capacityBytes: 256 * 2 ** 20, libraryFolder }));
  await fleet.whenServing();
  await plane.kubectl.apply(onnxRuntime());
  const healthPort = 20_000 + (process.pid % 10_000);
  const health = `http://127.0.0.1:${healthPort}`;
  const script = fileURLToPath(new URL("../controller/main.ts", import.meta.url));
  const flags = {
    kubeconfig: plane.kubeconfig,
    namespace: "default",
    registry: fleet.registryFile,
    gateways: fleet.adminUrl,
    image: "warmpath.test/warmpath:test",
    "health-port": healthPort,
    "log-level": "warn",
  };
  const controller = stack.use(
    superviseProcess({
      name: "controller",
      command: process.execPath,
      args: [script, ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`])],
      readyProbe: async () => (await request(`${health}/readyz`)).statusCode === 200,
      readyTimeoutMs: 60_000,
      restart: { kind: "never" },
      onOutput: say,
    }),
  );
  await controller.ready;

  const client = stack.use(createKubeClient(plane.kubeconfig));
  const ready = new Set<string>();
  const all = Promise.withResolvers<void>();
  const reflector = createReflector<string>({
    client,
    type: inferenceServices,
    namespace: "default",
    log: silentLog,
    parse: ({ body }) => stateOf(body),
    onChange(key, state) {
      if (state === "Loaded" || state === "Standby") ready.add(key);
      if (ready.size >= objects) all.resolve();
    },
  });
  const stop = new AbortController();
  const following = reflector.run(AbortSignal.any([signal, stop.signal]));
  stack.defer(async () => {
    stop.abort(new Error("done"));
    await following;
  });
  await reflector.synced;
  const before = await readWrites(health);

  const models = fleet.oracle.models.filter((name) => name !== "magika");
  const startMs = performance.now();
  let next = 0;
  const create = async (): Promise<void> => {
    for (let at = next++; at < objects; at = next++) {
      signal.throwIfAborted();
      const model = models[at % models.length] ?? "";
      const artefact = pathToFileURL(join(libraryFolder, `models/${model.split("-")[0]}/${model}.onnx`)).href;
      const object: unknown = JSON.parse(buildInferenceService(`bench-${String(at).padStart(6, "0")}`, artefact));
      await client.create(inferenceServices, "default", object);
    }
  };
  const telling = setInterval(() => say(`${Math.min(next, objects)} created, ${ready.size} ready`), tellEveryMs);
  try {
    await Promise.all(Array.from({ length: atOnce }, create));
    const createSeconds = (performance.now() - startMs) / 1_000;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
    limit.addEventListener("abort", () => all.reject(limit.reason), { once: true });
    await all.promise;
    const readySeconds = (performance.now() - startMs) / 1_000;
    return {
      objects,
      readySeconds: round(readySeconds),
      createSeconds: round(createSeconds),
      writesPerObject: round(((await readWrites(health)) - before) / objects),
      rssBytes: highestRss(controller.pid ?? 0),
    };
  } finally {
    clearInterval(telling);
  }
}

function stateOf(body: Readonly<Record<string, unknown>>): string {
  const state = record(record(record(body["status"])["modelStatus"])["states"])["activeModelState"];
  return typeof state === "string" ? state : "";
}

const counter = z.coerce.number();

async function readWrites(health: string): Promise<number> {
  const { body } = await request(`${health}/metrics`);
  const found = /warmpath_controller_api_calls_total\{kind="write"\} (\d+)/.exec(await body.text());
  return counter.parse(found?.[1]);
}

/** VmHWM, as the kernel keeps it. */
function highestRss(pid: number): number {
  const found = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1] ?? 0) * 1_024;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
