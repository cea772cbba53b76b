// Owns which processes run on one machine and how each is started: Envoy, the gateway beside it, and for each pod an
// adapter and a model server. Each is started again when it dies; none needs another to start first.
import { createWriteStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { toBinary } from "@bufbuild/protobuf";
import { Client } from "undici";
import type { AuthOptions } from "#envoy/auth.ts";
import { readAuthFile } from "#envoy/authfile.ts";
import { buildBootstrap } from "#envoy/bootstrap.ts";
import { buildSecrets, type PortTls } from "#envoy/tls.ts";
import type { Log } from "#platform/log.ts";
import { describeExit, type ProcessOptions, type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import type { IdentityFiles } from "#platform/tls/authority.ts";
import { BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { DiscoveryResponseSchema } from "#proto/gen/envoy/service/discovery/v3/discovery_pb.ts";
import type { UpOptions } from "./options.ts";
import { dyingWithParent } from "./parentdeath.ts";
import { findFreePorts } from "./ports.ts";
import type { State } from "./state.ts";
import { openUpTls } from "./tls.ts";

export interface Fleet {
  readonly processes: ReadonlyMap<string, SupervisedProcess>;
  readonly envoyAdmin: string;
  /** What clients of the ports trust; undefined without TLS, or with a certificate that was brought. */
  readonly caFile: string | undefined;
  readonly podRestUrls: readonly string[];
  /** Every process has been ready once. */
  readonly ready: Promise<void>;
}

const maxMessageBytes = 16 * 2 ** 20;
const maxParkMs = 600_000;
const loopback = "127.0.0.1";
const readyLine = /^\{"ready":true/;

export interface FleetParts {
  readonly options: UpOptions;
  readonly state: State;
  readonly runFolder: string;
  readonly log: Log;
}

/** Starts all processes; they stop with the stack, Envoy first so that no request meets a half-stopped fleet. */
export async function startFleet(parts: FleetParts, stack: AsyncDisposableStack): Promise<Fleet> {
  const { options, runFolder } = parts;
  const ports = await findFreePorts(loopback, options.pods * 2);
  const pods = Array.from({ length: options.pods }, (_, at) => ({
    podId: `pod-${at}`,
    restPort: ports[at * 2] ?? 0,
    grpcPort: ports[at * 2 + 1] ?? 0,
    adminSocket: join(runFolder, `pod-${at}.sock`),
  }));
  const envoyAdmin = join(runFolder, "envoy.sock");
  const gatewaySocket = join(runFolder, "gateway.sock");
  const bootstrapFile = join(runFolder, "envoy.pb");
  const tls = options.tls === undefined ? undefined : await openUpTls(options.stateFolder, options.tls);
  const auth = options.authFile === undefined ? undefined : await readAuthFile(options.authFile);
  const portTls = tls === undefined ? undefined : { ...tls.ports, secretsFolder: runFolder };
  for (const [name, response] of portTls === undefined ? [] : buildSecrets(portTls)) {
    await writeFile(join(runFolder, name), toBinary(DiscoveryResponseSchema, response));
  }
  await writeFile(bootstrapFile, buildBootstrapFile(options, envoyAdmin, gatewaySocket, portTls, auth));

  const processes = new Map<string, SupervisedProcess>();
  const start = (process: ProcessOptions): void => {
    const supervised = superviseProcess({ ...process, ...logged(process.name, parts) });
    processes.set(process.name, stack.use(supervised));
  };
  for (const pod of pods) {
    start({
      name: `${pod.podId}-server`,
      ...node("runtimes/onnx/main.ts", {
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
    });
    start({
      name: `${pod.podId}-adapter`,
      ...node("adapters/main.ts", {
        "pod-id": pod.podId,
        runtime: "onnx",
        "link-port": 0,
        "metrics-port": 0,
        "admin-socket": pod.adminSocket,
        "rest-address": `${loopback}:${pod.restPort}`,
        "grpc-address": `${loopback}:${pod.grpcPort}`,
        "capacity-bytes": options.capacityBytes,
        registry: parts.state.registryFile,
        "storage-root": options.libraryFolder,
        "log-level": options.logLevel,
        ...otlpFlags(options),
        ...peerFlags(tls?.adapter),
      }),
      readyLine,
    });
  }
  start({
    name: "gateway",
    ...node("gateway/main.ts", {
      "gateway-id": "gateway-0",
      socket: gatewaySocket,
      "envoy-admin": envoyAdmin,
      registry: parts.state.registryFile,
      "admin-port": options.adminPort,
      "max-park-ms": maxParkMs,
      "log-level": options.logLevel,
      ...(options.authFile === undefined ? {} : { auth: options.authFile }),
      ...otlpFlags(options),
      ...(options.tracing === undefined ? {} : { "trace-share": options.tracing.share }),
      ...peerFlags(tls?.gateway),
    }),
    readyLine,
  });
  start({
    name: "envoy",
    ...(await dyingWithParent({
      command: options.envoyBinary,
      args: ["--config-path", bootstrapFile, "--log-level", "warning", "--disable-hot-restart", "--concurrency", "2"],
    })),
    readyProbe: () => isLive(envoyAdmin),
    // Without a gateway it listens all the same, but only when it has waited for each part of its configuration.
    readyTimeoutMs: 120_000,
  });
  return {
    processes,
    envoyAdmin,
    caFile: tls?.caFile,
    podRestUrls: pods.map(({ restPort }) => `http://${loopback}:${restPort}`),
    ready: Promise.all([...processes.values()].map(({ ready }) => ready)).then(() => undefined),
  };
}

/** Envoy listens on its ports once it has its first configuration, which is later than its start. */
async function isLive(adminSocket: string): Promise<boolean> {
  const client = new Client("http://envoy", { socketPath: adminSocket, headersTimeout: 1_000, bodyTimeout: 1_000 });
  try {
    const { statusCode, body } = await client.request({ method: "GET", path: "/ready" });
    await body.dump();
    return statusCode === 200;
  } finally {
    await client.destroy();
  }
}

function peerFlags(files: IdentityFiles | undefined): Readonly<Record<string, string>> {
  return files === undefined ? {} : { "peer-ca": files.ca, "peer-cert": files.cert, "peer-key": files.key };
}

function buildBootstrapFile(
  options: UpOptions,
  adminSocket: string,
  gatewaySocket: string,
  tls: PortTls | undefined,
  auth: AuthOptions | undefined,
): Uint8Array {
  return toBinary(
    BootstrapSchema,
    buildBootstrap({
      nodeId: "envoy-0",
      adminSocket,
      gatewaySocket,
      http: { host: options.host, port: options.httpPort },
      grpc: { host: options.host, port: options.grpcPort },
      maxMessageBytes,
      maxParkMs,
      tracing: options.tracing,
      tls,
      auth,
    }),
  );
}

function otlpFlags({ tracing }: UpOptions): Readonly<Record<string, string>> {
  return tracing === undefined ? {} : { "otlp-endpoint": tracing.endpoint, "otlp-protocol": tracing.protocol };
}

/** A process of ours, on the Node that runs this one. */
function node(entry: string, flags: Readonly<Record<string, string | number | true>>): Pick<ProcessOptions, "command" | "args"> {
  const script = fileURLToPath(new URL(`../../${entry}`, import.meta.url));
  const given = Object.entries(flags).flatMap(([flag, value]) => (value === true ? [`--${flag}`] : [`--${flag}`, `${value}`]));
  return { command: process.execPath, args: [script, ...given] };
}

/** What a process prints goes to a log file of its own; that it died is told. */
function logged(name: string, { state, log }: FleetParts): Pick<ProcessOptions, "onOutput" | "onExit" | "onState"> {
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
