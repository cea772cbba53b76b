// Owns the fleet of a benchmark: what `warmpath up` starts, with one pod, in a folder that goes when it ends; and in
// place of its Envoy one with a single worker thread and the plain routes beside the hit path.
import { createWriteStream } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { managementUrl } from "#cli/up/gateways.ts";
import { createManagement, type Management } from "#cli/up/management.ts";
import type { UpOptions } from "#cli/up/options.ts";
import { dyingWithParent } from "#cli/up/parentdeath.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { startFleet } from "#cli/up/processes.ts";
import { openState, registerLibrary } from "#cli/up/state.ts";
import { envoyArguments } from "#envoy/arguments.ts";
import { sleep } from "#platform/clock.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { createLog } from "#platform/log.ts";
import { superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { type Bootstrap, BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { askPodAddress, isListening, type PodAddress, type SocketAddress, type Wire } from "./addresses.ts";
import { addPlainRoutes } from "./plainroute.ts";

export type PathName = "hit" | "static" | "direct";

export interface BenchFleet {
  readonly ports: Readonly<Record<PathName, Readonly<Record<Wire, SocketAddress>>>>;
  readonly management: Management;
  /** Of the management API. */
  readonly adminUrl: string;
  /** PEM of the authority of its certificate; undefined without TLS. */
  readonly managementCa: Buffer | undefined;
  readonly folder: string;
  /** What clients of the hit path trust; undefined without TLS. */
  readonly caFile: string | undefined;
  readonly pids: { readonly envoy: number; readonly gateway: number; readonly modelServer: number };
}

export interface BenchFleetOptions {
  readonly envoyBinary: string;
  readonly libraryFolder: string;
  /** Memory of the one pod: every model that the benchmark calls must fit. */
  readonly capacityBytes: number;
  /** How callers prove who they are, TLS, traces; nothing of it when absent. */
  readonly edge?: Pick<UpOptions, "authFile" | "tls" | "tracing">;
  /** What else its Envoy is started with. */
  readonly edit?: (bootstrap: Bootstrap, pod: PodAddress) => void;
}

const host = "127.0.0.1";
const startDeadlineMs = 60_000;

export async function openBenchFleet(
  options: BenchFleetOptions,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<BenchFleet> {
  const { path: folder } = stack.use(await openRunFolder());
  // The first three are left to the pod, which looks for free ports in the same order.
  const [, , , httpPort = 0, grpcPort = 0, adminPort = 0, plainHttpPort = 0, plainGrpcPort = 0] = await findFreePorts(host, 8);
  const up: UpOptions = {
    host,
    httpPort,
    grpcPort,
    adminPort,
    pods: 1,
    capacityBytes: options.capacityBytes,
    stateFolder: join(folder, "state"),
    forMs: undefined,
    concurrency: 1,
    json: false,
    logLevel: "warn",
    envoyBinary: options.envoyBinary,
    libraryFolder: options.libraryFolder,
    ...options.edge,
  };
  const state = await openState(up.stateFolder, stack);
  await registerLibrary({ kind: "embedded", file: state.registryFile }, options.libraryFolder);
  const log = stack.use(createLog({ service: "bench", level: "warn" }));
  const started = await startFleet({ options: up, state, runFolder: folder, log }, stack);
  const adminUrl = managementUrl({ adminPort }, up.tls !== undefined);
  const managementCa = started.managementCaFile === undefined ? undefined : await readFile(started.managementCaFile);
  const management = stack.use(createManagement(adminUrl, managementCa));
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(startDeadlineMs)]);
  const until = async <T>(what: string, ask: () => Promise<T | undefined>): Promise<T> => {
    for (;;) {
      const found = await ask();
      if (found !== undefined) return found;
      await sleep(20, deadline).catch(() => {
        signal.throwIfAborted();
        throw new StartupError(`${what} did not come within ${startDeadlineMs / 1_000} s`);
      });
    }
  };
  const ready = started.ready.then((): true => true);
  const notYet = Promise.resolve(undefined);
  // A promise that is settled wins the race against one that is settled after it.
  await until("the fleet", () => Promise.race([ready, notYet]));
  const pod = await until("the pod", () => askPodAddress(started.envoyAdmin));

  await started.processes.get("envoy")?.stop();
  const plain = { rest: { host, port: plainHttpPort }, grpc: { host, port: plainGrpcPort } };
  const envoyPid = await startEnvoy(options, folder, pod, plain, stack);
  await until("a fleet that is ready", async () => {
    const ready = (await isListening(started.envoyAdmin)) && (await management.isReady());
    return ready ? true : undefined;
  });

  const pidOf = (name: string): number => {
    const pid = started.processes.get(name)?.pid;
    if (pid === undefined) throw new StartupError(`${name} does not run`);
    return pid;
  };
  return {
    ports: { hit: { rest: { host, port: httpPort }, grpc: { host, port: grpcPort } }, static: plain, direct: pod },
    management,
    adminUrl,
    managementCa,
    folder,
    caFile: started.caFile,
    pids: { envoy: envoyPid, gateway: pidOf("gateway"), modelServer: pidOf("pod-0-server") },
  };
}

async function startEnvoy(
  { envoyBinary: command, edit }: BenchFleetOptions,
  folder: string,
  pod: PodAddress,
  plain: Readonly<Record<Wire, SocketAddress>>,
  stack: AsyncDisposableStack,
): Promise<number> {
  const file = join(folder, "bench-envoy.pb");
  const bootstrap = fromBinary(BootstrapSchema, addPlainRoutes(await readFile(join(folder, "envoy.pb")), pod, plain));
  edit?.(bootstrap, pod);
  await writeFile(file, toBinary(BootstrapSchema, bootstrap));
  const output = createWriteStream(join(folder, "bench-envoy.log"));
  const args = envoyArguments(file, 1);
  // A benchmark that dies leaves nothing behind.
  const program = await dyingWithParent({ command, args });
  const envoy = stack.use(
    superviseProcess({
      name: "envoy",
      ...program,
      restart: { kind: "never" },
      onOutput: (line) => void output.write(`${line}\n`),
    }),
  );
  await envoy.ready;
  if (envoy.pid === undefined) throw new StartupError("Envoy does not run");
  return envoy.pid;
}
