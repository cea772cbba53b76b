// Owns a fleet without model servers: a real Envoy with one worker thread and a real gateway, each a process of its own,
// and in this process pods that only say what they hold, and one upstream that answers for all of them at once.
import { createWriteStream } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { toBinary } from "@bufbuild/protobuf";
import { createManagement, type Management } from "#cli/up/management.ts";
import { dyingWithParent } from "#cli/up/parentdeath.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { nodeProgram } from "#cli/up/processes.ts";
import { type Division, moveThreads, onProcessors } from "#cli/up/processors.ts";
import { workerThreads } from "#cli/up/threads.ts";
import { parseModel } from "#core/model.ts";
import { envoyArguments } from "#envoy/arguments.ts";
import { buildBootstrap } from "#envoy/bootstrap.ts";
import { sleep } from "#platform/clock.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { podPrefix, putModels } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import type { Revision } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { type CopyInit, type FakePod, openFakePod } from "#test/harness/fakepod.ts";
import { isListening, type SocketAddress } from "./addresses.ts";
import { nodeOn } from "./children.ts";
import { createEnvoyAdmin, type EnvoyAdmin } from "./envoyadmin.ts";
import { addPlainRoutes } from "./plainroute.ts";
import { openUpstream } from "./upstream.ts";

export interface FakeFleetOptions {
  readonly envoyBinary: string;
  /** Registered are modelName(0) to modelName(registered - 1). */
  readonly registered: number;
  /** What each pod holds from the beginning; as many pods as there are lists. */
  readonly copies: readonly (readonly CopyInit[])[];
  /** Pods of another kind besides; they announce themselves. `address`: of what answers for their model servers. */
  readonly others?: readonly ((registryFile: string, address: string) => Promise<AsyncDisposable>)[];
  /** Which processors Envoy and the upstream have to themselves, and which the gateway; all share all when absent. */
  readonly division?: Division | undefined;
  /** What a load takes; at once when absent. */
  readonly load?: (podId: string, revision: Revision) => Promise<void>;
}

export interface FakeFleet {
  readonly folder: string;
  readonly hit: SocketAddress;
  /** A plain listener of the same Envoy, to the same upstream. */
  readonly plain: SocketAddress;
  readonly pods: readonly FakePod[];
  readonly management: Management;
  /** Of the management API. */
  readonly adminUrl: string;
  readonly envoyAdmin: EnvoyAdmin;
  readonly gatewayPid: number;
  /** From the start of its process until it has read the registry and what every pod holds. */
  readonly gatewayStartMs: number;
  readonly envoyPid: number;
  /** Ends it and starts another. Resolves with the time of that start, on the scale of `performance.now()`. */
  restartEnvoy(): Promise<number>;
}

const host = "127.0.0.1";
const maxMessageBytes = 16 * 2 ** 20;
const maxParkMs = 600_000;
const startDeadlineMs = 120_000;
const batch = 10_000;

/** As long as people's names are: short ones are kept in less memory. */
export function modelName(at: number): string {
  return `fraud-detector-of-customer-${String(at).padStart(7, "0")}`;
}

export async function openFakeFleet(
  options: FakeFleetOptions,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<FakeFleet> {
  const { path: folder } = stack.use(await openRunFolder());
  const registryFile = join(folder, "registry.db");
  const registry = stack.use(await openRegistry({ kind: "embedded", file: registryFile }));
  await registerModels(registry, 0, options.registered, signal);
  const upstream = stack.use(await openUpstream(await nodeOn(options.division?.hits)));
  const pods: FakePod[] = [];
  for (const [at, copies] of options.copies.entries()) pods.push(await openPod(at, copies));
  for (const open of options.others ?? []) stack.use(await open(registryFile, `${upstream.host}:${upstream.port}`));
  const expected = pods.length + (options.others?.length ?? 0);
  await waitFor("the pods", signal, async () => (await registry.list(podPrefix, { limit: 100 })).entries.length === expected);

  const [adminPort = 0, httpPort = 0, grpcPort = 0, plainPort = 0, plainGrpcPort = 0] = await findFreePorts(host, 5);
  const gatewaySocket = join(folder, "gateway.sock");
  const envoySocket = join(folder, "envoy.sock");
  const startedMs = performance.now();
  const flags = {
    "gateway-id": "gateway-0",
    socket: gatewaySocket,
    "envoy-admin": envoySocket,
    registry: registryFile,
    "admin-port": adminPort,
    "max-park-ms": maxParkMs,
    "log-level": "warn",
    "exit-with-parent": true as const,
  };
  const gateway = stack.use(
    superviseProcess({
      name: "gateway",
      ...(await onProcessors(nodeProgram("gateway/main.ts", flags), options.division?.others)),
      restart: { kind: "never" },
      readyLine: /^\{"ready":true/,
      readyTimeoutMs: startDeadlineMs,
      onOutput: outputTo(join(folder, "gateway.log")),
    }),
  );
  await gateway.ready;
  const gatewayStartMs = performance.now() - startedMs;

  const plain = { rest: { host, port: plainPort }, grpc: { host, port: plainGrpcPort } };
  const bootstrap = buildBootstrap({
    nodeId: "envoy-0",
    adminSocket: envoySocket,
    gatewaySocket,
    http: { host, port: httpPort },
    grpc: { host, port: grpcPort },
    maxMessageBytes,
    maxParkMs,
  });
  const bootstrapFile = join(folder, "envoy.pb");
  const address = { host: upstream.host, port: upstream.port };
  await writeFile(bootstrapFile, addPlainRoutes(toBinary(BootstrapSchema, bootstrap), { rest: address, grpc: address }, plain));
  // A benchmark that dies leaves nothing behind.
  const args = envoyArguments(bootstrapFile, 1);
  const program = await onProcessors(await dyingWithParent({ command: options.envoyBinary, args }), options.division?.hits);
  let envoy = await startEnvoy();
  stack.defer(() => envoy.stop());
  const management = stack.use(createManagement(`http://${host}:${adminPort}`));
  const envoyAdmin = stack.use(createEnvoyAdmin(envoySocket));
  await waitFor("a fleet that is ready", signal, async () => (await isListening(envoySocket)) && (await management.isReady()));
  // Not before it has started its workers, which run where it does.
  if (options.division !== undefined) await moveThreads(pidOf(envoy), options.division.others, workerThreads);
  return {
    folder,
    hit: { host, port: httpPort },
    plain: plain.rest,
    pods,
    management,
    adminUrl: `http://${host}:${adminPort}`,
    envoyAdmin,
    gatewayPid: pidOf(gateway),
    gatewayStartMs,
    get envoyPid() {
      return pidOf(envoy);
    },
    async restartEnvoy() {
      await envoy.stop(0);
      const nowMs = performance.now();
      envoy = await startEnvoy();
      return nowMs;
    },
  };

  async function openPod(at: number, copies: readonly CopyInit[]): Promise<FakePod> {
    const podId = `pod-${at}`;
    const { load } = options;
    const address = `${upstream.host}:${upstream.port}`;
    const wait = load === undefined ? {} : { load: (revision: Revision) => load(podId, revision) };
    return stack.use(await openFakePod({ registry, podId, restAddress: address, grpcAddress: address, copies, ...wait }));
  }

  async function startEnvoy(): Promise<SupervisedProcess> {
    const started = superviseProcess({
      name: "envoy",
      ...program,
      restart: { kind: "never" },
      onOutput: outputTo(join(folder, "envoy.log")),
    });
    await started.ready;
    return started;
  }
}

/** modelName(first) and the `count - 1` after it, many at a time. */
export async function registerModels(registry: Registry, first: number, count: number, signal: AbortSignal): Promise<void> {
  for (let at = first; at < first + count; at += batch) {
    signal.throwIfAborted();
    const names = Array.from({ length: Math.min(batch, first + count - at) }, (_, step) => modelName(at + step));
    const put = await putModels(registry, names.map(buildModel));
    if (put.kind !== "ok") throw new Error(`the registry refused models: ${put.kind}`);
  }
}

function buildModel(name: string) {
  const parsed = parseModel({
    name,
    revisions: [{ id: "r1", slot: 0, format: "onnx", storageUri: `file:///models/${name}.onnx` }],
    active: "r1",
  });
  if (parsed.kind === "refused") throw new Error(`${name} is refused: ${parsed.reason}`);
  return parsed.model;
}

/** Asks until it is so; throws when it does not come to be. */
export async function waitFor(
  what: string,
  signal: AbortSignal,
  isSo: () => boolean | Promise<boolean>,
  pauseMs = 20,
): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(startDeadlineMs)]);
  while (!(await isSo())) {
    await sleep(pauseMs, deadline).catch(() => {
      signal.throwIfAborted();
      throw new StartupError(`${what} did not come within ${startDeadlineMs / 1_000} s`);
    });
  }
}

/** Memory that a process has now, and at most had. */
export async function readMemory(pid: number): Promise<{ readonly rssBytes: number; readonly peakBytes: number }> {
  const text = await readFile(`/proc/${pid}/status`, "utf8");
  const read = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1]) * 1_024;
  return { rssBytes: read("VmRSS"), peakBytes: read("VmHWM") };
}

function pidOf({ pid }: SupervisedProcess): number {
  if (pid === undefined) throw new StartupError("a process of the fleet does not run");
  return pid;
}

function outputTo(file: string): (line: string) => void {
  const output = createWriteStream(file, { flags: "a" });
  return (line) => void output.write(`${line}\n`);
}
