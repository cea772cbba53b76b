// Owns which processes run on one machine and how each is started: gateways with an Envoy beside each, and for each pod an
// adapter and a model server. Each is started again when it dies; none needs another to start first.
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Log } from "#platform/log.ts";
import {
  describeExit,
  type ProcessOptions,
  type ProcessState,
  type SupervisedProcess,
  superviseProcess,
} from "#platform/process.ts";
import { flagsOfTarget, type RegistryTarget } from "#platform/registry/target.ts";
import { adminFlags, buildEnvoy, type GatewayPlace, maxParkMs, peerFlags, placeGateways } from "./gateways.ts";
import type { Program } from "./launchers.ts";
import type { UpOptions } from "./options.ts";
import { findFreePorts } from "./ports.ts";
import { allowedProcessors, type Division, divideProcessors, moveThreads, onProcessors } from "./processors.ts";
import { asServer, raiseWorkers, requireRealTime } from "./realtime.ts";
import type { State } from "./state.ts";
import { workerThreads } from "./threads.ts";
import { openUpTls } from "./tls.ts";

export interface Fleet {
  readonly processes: ReadonlyMap<string, SupervisedProcess>;
  readonly gateways: readonly GatewayPlace[];
  /** Of the first gateway's Envoy. */
  readonly envoyAdmin: string;
  /** What clients of the ports trust; undefined without TLS, or with a certificate that was brought. */
  readonly caFile: string | undefined;
  /** What callers of the management API trust; undefined without TLS. */
  readonly managementCaFile: string | undefined;
  readonly podRestUrls: readonly string[];
  /** Every process has been ready once. */
  readonly ready: Promise<void>;
}

const loopback = "127.0.0.1";
/** A machine that is busy starts slowly: to kill it for that would only make it busier. */
const readyTimeoutMs = 120_000;
const readyLine = /^\{"ready":true/;

export interface FleetParts {
  readonly options: UpOptions;
  readonly state: State;
  readonly runFolder: string;
  readonly log: Log;
  /** Added to the environment of the process of this name. */
  readonly envOf?: (name: string) => Readonly<Record<string, string>>;
  /** The file of the state folder when absent. */
  readonly registry?: RegistryTarget;
  /** Where gateways are told to find the pod's adapter, which listens at `address`; there when absent. */
  readonly announceLink?: (podId: string, address: string) => Promise<string>;
}

interface FleetProcess extends ProcessOptions {
  readonly role: "server" | "adapter" | "gateway" | "envoy";
}

/** Where each runs when hits have processors of their own. */
const sides: Readonly<Record<FleetProcess["role"], keyof Division>> = {
  server: "hits",
  adapter: "others",
  gateway: "others",
  envoy: "hits",
};

/** Starts all processes; they stop with the stack, Envoy first so that no request meets a half-stopped fleet. */
export async function startFleet(parts: FleetParts, stack: AsyncDisposableStack): Promise<Fleet> {
  const { options, runFolder } = parts;
  const ports = await findFreePorts(loopback, options.pods * 3);
  const pods = Array.from({ length: options.pods }, (_, at) => ({
    podId: `pod-${at}`,
    restPort: ports[at * 3] ?? 0,
    grpcPort: ports[at * 3 + 1] ?? 0,
    // The same after a restart: gateways find it there even when the registry is away.
    linkPort: ports[at * 3 + 2] ?? 0,
    adminSocket: join(runFolder, `pod-${at}.sock`),
  }));
  const tls = options.tls === undefined ? undefined : await openUpTls(options.stateFolder, options.tls);
  const gateways = placeGateways(options, runFolder);
  const registry = flagsOfTarget(parts.registry ?? { kind: "embedded", file: parts.state.registryFile });

  const { hitProcessors, hitsFirst = false } = options;
  if (hitsFirst) await requireRealTime();
  const division = hitProcessors === undefined ? undefined : divideProcessors(hitProcessors, await allowedProcessors());
  const processes = new Map<string, SupervisedProcess>();
  const tellApart = async (envoyPid: number): Promise<void> => {
    if (division !== undefined) await moveThreads(envoyPid, division.others, workerThreads);
    if (hitsFirst) await raiseWorkers(envoyPid);
  };
  const start = async ({ role, command, args = [], ...process }: FleetProcess): Promise<void> => {
    const env = { ...process.env, ...parts.envOf?.(process.name) };
    const placed = await onProcessors({ command, args }, division?.[sides[role]]);
    const program = hitsFirst && role === "server" ? await asServer(placed) : placed;
    const logs = logged(process.name, parts);
    const onState = (state: ProcessState): void => {
      logs.onState?.(state);
      if (role !== "envoy" || state.kind !== "ready") return;
      // Its threads are there only now.
      tellApart(state.pid).catch((error: unknown) =>
        parts.log.warn("Envoy's threads cannot be told apart", { process: process.name, error }),
      );
    };
    const supervised = superviseProcess({ ...process, ...program, env, ...logs, onState });
    processes.set(process.name, stack.use(supervised));
  };
  for (const pod of pods) {
    await start({
      role: "server",
      name: `${pod.podId}-server`,
      ...nodeProgram("runtimes/onnx/main.ts", {
        "rest-port": pod.restPort,
        "grpc-port": pod.grpcPort,
        "admin-socket": pod.adminSocket,
        "exit-with-parent": true,
      }),
      env: {
        // Otherwise the memory of an unloaded model stays with the process.
        MALLOC_TRIM_THRESHOLD_: "131072",
      },
      readyLine,
      readyTimeoutMs,
    });
    const announced = await parts.announceLink?.(pod.podId, `${loopback}:${pod.linkPort}`);
    await start({
      role: "adapter",
      name: `${pod.podId}-adapter`,
      ...nodeProgram("adapters/main.ts", {
        "pod-id": pod.podId,
        runtime: "onnx",
        "link-port": pod.linkPort,
        ...(announced === undefined ? {} : { "link-advertise": announced }),
        "metrics-port": 0,
        "admin-socket": pod.adminSocket,
        "rest-address": `${loopback}:${pod.restPort}`,
        "grpc-address": `${loopback}:${pod.grpcPort}`,
        "capacity-bytes": options.capacityBytes,
        ...registry,
        "exit-with-parent": true,
        "storage-root": options.libraryFolder,
        "cache-dir": join(parts.state.cacheFolder, pod.podId),
        "allow-private-addresses": true,
        ...(options.storageConfig === undefined ? {} : { "storage-config": options.storageConfig }),
        "log-level": options.logLevel,
        ...otlpFlags(options),
        ...peerFlags(tls?.adapter),
      }),
      readyLine,
      readyTimeoutMs,
    });
  }
  for (const gateway of gateways) {
    await start({
      role: "gateway",
      name: gateway.gatewayName,
      ...nodeProgram("gateway/main.ts", {
        "gateway-id": gateway.gatewayId,
        socket: gateway.gatewaySocket,
        "envoy-admin": gateway.envoyAdmin,
        ...registry,
        "exit-with-parent": true,
        "admin-port": gateway.adminPort,
        ...(gateway.modelmeshPort === undefined ? {} : { "modelmesh-port": gateway.modelmeshPort }),
        "max-park-ms": maxParkMs,
        "log-level": options.logLevel,
        ...(options.authFile === undefined ? {} : { auth: options.authFile }),
        ...otlpFlags(options),
        ...(options.tracing === undefined ? {} : { "trace-share": options.tracing.share }),
        ...peerFlags(tls?.gateway),
        ...adminFlags(tls),
      }),
      readyLine,
      readyTimeoutMs,
    });
  }
  for (const gateway of gateways) await start({ role: "envoy", ...(await buildEnvoy(gateway, options, tls, runFolder)) });
  return {
    processes,
    gateways,
    envoyAdmin: gateways[0]?.envoyAdmin ?? "",
    caFile: tls?.caFile,
    managementCaFile: tls?.management.ca,
    podRestUrls: pods.map(({ restPort }) => `http://${loopback}:${restPort}`),
    ready: Promise.all([...processes.values()].map(({ ready }) => ready)).then(() => undefined),
  };
}

function otlpFlags({ tracing }: UpOptions): Readonly<Record<string, string>> {
  return tracing === undefined ? {} : { "otlp-endpoint": tracing.endpoint, "otlp-protocol": tracing.protocol };
}

/** One of our own programs, such as `gateway/main.ts`, on the Node that runs this one. */
export function nodeProgram(entry: string, flags: Readonly<Record<string, string | number | true>>): Program {
  const script = fileURLToPath(new URL(`../../${entry}`, import.meta.url));
  const given = Object.entries(flags).flatMap(([flag, value]) => (value === true ? [`--${flag}`] : [`--${flag}`, `${value}`]));
  return { command: process.execPath, args: [script, ...given] };
}

/** What a process prints goes to a log file of its own; that it died is told. */
export function logged(
  name: string,
  { state, log }: Pick<FleetParts, "state" | "log">,
): Pick<ProcessOptions, "onOutput" | "onExit" | "onState"> {
  const file = createWriteStream(join(state.logFolder, `${name}.log`), { flags: "w", mode: 0o600 });
  file.on("error", (error) => log.warn("a log cannot be written", { process: name, error }));
  let stopping = false;
  return {
    onOutput: (line) => void file.write(`${line}\n`),
    onState: ({ kind }) => {
      stopping = kind === "stopping";
    },
    onExit: (exit) => {
      if (!stopping) log.warn("a process ended and is started again", { process: name, exit: describeExit(exit) });
    },
  };
}
