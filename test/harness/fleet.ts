// Owns a whole real fleet for tests: Envoy, gateway, and pods with adapter and model server, as `warmpath up` starts them,
// on free ports and in folders of its own. Nothing of it is left after disposal, however the test ends: the processes end
// with the one that started them.
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Client } from "undici";
import { type Oracle, openOracle } from "#cli/library/oracle.ts";
import { type GatewayPlace, managementUrl } from "#cli/up/gateways.ts";
import { createManagements, type Management, type Stats } from "#cli/up/management.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { startFleet } from "#cli/up/processes.ts";
import { openState, registerLibrary } from "#cli/up/state.ts";
import type { EnvoyLimits } from "#envoy/limits.ts";
import type { TracingOptions } from "#envoy/tracing.ts";
import type { SupervisedProcess } from "#platform/process.ts";
import { parseRegistryTarget, type RegistryTarget } from "#platform/registry/target.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { createRecordingLog, type RecordingLog } from "#platform/testing.ts";
import type { EtcdServer } from "./etcd.ts";
import { createRestClient, type RestAnswer } from "./http.ts";
import { type Asker, createAsker } from "./models.ts";
import { findEnvoy, findLibrary } from "./setup.ts";
import { waitUntil } from "./wait.ts";

export interface FleetOptions {
  /** 2 when absent. */
  readonly pods?: number;
  /** Of each pod; 28 MiB when absent. */
  readonly capacityBytes?: number;
  /** Adapters may load models from nowhere else; the whole library when absent. */
  readonly libraryFolder?: string;
  /** The folder of the storage settings; none when absent. */
  readonly storageConfig?: string;
  /** How callers prove who they are. */
  readonly authFile?: string;
  /** TLS on the ports and between processes; the asker trusts what `up` made. */
  readonly tls?: {
    readonly plainText?: boolean;
    readonly clientCaFile?: string;
    readonly client?: { readonly cert: Buffer; readonly key: Buffer };
  };
  /** Nothing is traced when absent. */
  readonly tracing?: TracingOptions;
  /** Of each Envoy; its defaults when absent. */
  readonly limits?: EnvoyLimits;
  /** Of Envoys and model servers alone; all share all when absent. */
  readonly hitProcessors?: readonly number[];
  /** What a hit passes runs before all else of the machine. */
  readonly hitsFirst?: boolean;
  /** Each with an Envoy of its own; 1 when absent. */
  readonly gateways?: number;
  /** By how many milliseconds the clock of the process of this name goes wrong. */
  readonly clockErrorMs?: (name: string) => number;
  /** Keeps the registry; a file when absent. */
  readonly etcd?: EtcdServer;
  /** ModelMesh's management is served by each gateway. */
  readonly modelmesh?: boolean;
  /** Where gateways are told to find a pod's adapter, such as a proxy before it. */
  readonly announceLink?: (podId: string, address: string) => Promise<string>;
}

/** How one of several gateways is reached. */
export interface TestGateway extends GatewayPlace {
  readonly restUrl: string;
  /** `host:port` */
  readonly grpcTarget: string;
  readonly adminUrl: string;
}

export interface TestFleet extends AsyncDisposable {
  /** Of the first gateway. */
  readonly restUrl: string;
  /** `host:port` */
  readonly grpcTarget: string;
  readonly adminUrl: string;
  readonly gateways: readonly TestGateway[];
  readonly oracle: Oracle;
  readonly asker: Asker;
  readonly management: Management;
  /** envoy, gateway, pod-0-server, pod-0-adapter, pod-1-server ... */
  readonly processes: ReadonlyMap<string, SupervisedProcess>;
  readonly libraryFolder: string;
  readonly registryFile: string;
  readonly registry: RegistryTarget;
  readonly runFolder: string;
  readonly stateFolder: string;
  readonly logFolder: string;
  /** What the supervisor said. */
  readonly log: RecordingLog;
  stats(): Promise<Stats>;
  /** Calls the management API. */
  manage(method: "GET" | "PUT" | "POST" | "DELETE", path: string, body?: unknown): Promise<RestAnswer>;
  /** Registers a model and waits until the gateway knows it. */
  register(name: string, storageUri: string, format?: string): Promise<void>;
  /** Envoy's counters and gauges whose names match. */
  envoyStats(filter: string): Promise<ReadonlyMap<string, number>>;
  /** A part of Envoy's configuration as it is now, as JSON. */
  envoyConfig(resource: string): Promise<string>;
  /** What is under way in Envoy: of each endpoint its connections and requests, and what became of them. */
  envoyWork(): Promise<string>;
  /** Inference requests that the model servers have had since their start. */
  serverRequests(): Promise<number>;
  process(name: string): SupervisedProcess;
  /** The end of what a process has printed. */
  tail(name: string): Promise<string>;
  /** Every process is ready, every pod linked, and Envoy connected. */
  whenServing(): Promise<void>;
}

const loopback = "127.0.0.1";
const startMs = 120_000;

export async function openFleet(options: FleetOptions = {}): Promise<TestFleet> {
  const { gateways = 1, pods = 2, capacityBytes = 28 * 2 ** 20 } = options;
  await using opening = new AsyncDisposableStack();
  const libraryFolder = options.libraryFolder ?? (await findLibrary());
  const stateFolder = opening.use(await openRunFolder()).path;
  const state = await openState(stateFolder, opening);
  const registry: RegistryTarget =
    options.etcd === undefined
      ? { kind: "embedded", file: state.registryFile }
      : parseRegistryTarget({ registry: `etcd://${options.etcd.address}/fleet` });
  await registerLibrary(registry, libraryFolder);
  const runFolder = opening.use(await openRunFolder()).path;
  // The fleet takes the first free ones for its pods; nobody listens on any of them yet.
  const [httpPort, grpcPort, adminPort, modelmeshPort] = await findPorts(pods, gateways);
  const log = createRecordingLog();
  const fleet = await startFleet(
    {
      options: {
        host: loopback,
        httpPort,
        grpcPort,
        adminPort,
        modelmeshPort: options.modelmesh === true ? modelmeshPort : undefined,
        gateways,
        pods,
        capacityBytes,
        stateFolder,
        storageConfig: options.storageConfig,
        forMs: undefined,
        concurrency: 16,
        json: false,
        logLevel: "info",
        envoyBinary: await findEnvoy(),
        libraryFolder,
        authFile: options.authFile,
        tracing: options.tracing,
        limits: options.limits,
        hitProcessors: options.hitProcessors,
        hitsFirst: options.hitsFirst === true,
        tls: options.tls && {
          host: loopback,
          brought: undefined,
          clientCaFile: options.tls.clientCaFile,
          plainText: options.tls.plainText === true,
        },
      },
      state,
      runFolder,
      log,
      registry,
      envOf: (name) => wrongClock(options.clockErrorMs?.(name) ?? 0),
      ...(options.announceLink === undefined ? {} : { announceLink: options.announceLink }),
    },
    opening,
  );
  const tls = fleet.caFile === undefined ? undefined : { ca: await readFile(fleet.caFile), ...options.tls?.client };
  const restUrl = `${tls === undefined ? "http" : "https"}://${loopback}:${httpPort}`;
  const grpcTarget = `${loopback}:${grpcPort}`;
  const adminUrl = managementUrl({ adminPort }, options.tls !== undefined);
  const managementCa = fleet.managementCaFile === undefined ? undefined : await readFile(fleet.managementCaFile);
  const reached = fleet.gateways.map((place) => ({
    ...place,
    restUrl: `${tls === undefined ? "http" : "https"}://${loopback}:${place.httpPort}`,
    grpcTarget: `${loopback}:${place.grpcPort}`,
    adminUrl: managementUrl(place, options.tls !== undefined),
  }));
  const management = opening.use(
    createManagements(
      reached.map((gateway) => gateway.adminUrl),
      managementCa,
    ),
  );
  const oracle = await openOracle(libraryFolder);
  const asker = opening.use(createAsker({ restUrl, grpcTarget, oracle, connections: 256, tls }));

  const parts: Omit<TestFleet, typeof Symbol.asyncDispose> = {
    restUrl,
    grpcTarget,
    adminUrl,
    gateways: reached,
    oracle,
    asker,
    management,
    processes: fleet.processes,
    libraryFolder,
    registryFile: state.registryFile,
    registry,
    runFolder,
    stateFolder,
    logFolder: state.logFolder,
    log,
    async stats() {
      return (await waitUntil(
        "the gateway tells its counters",
        () => management.stats(),
        (stats) => stats !== undefined,
      ))!;
    },
    async manage(method, path, body) {
      await using client = createRestClient(adminUrl, managementCa);
      const headers = body === undefined ? [] : [["content-type", "application/json"] as const];
      return await client.ask(path, { method, headers, body });
    },
    async register(name, storageUri, format = "onnx") {
      const put = await parts.manage("PUT", `/api/v1/models/${name}`, { format, storageUri });
      if (put.status !== 201) throw new Error(`${name} could not be registered: ${put.status} ${put.text}`);
      await waitUntil(
        `${name} is known`,
        async () => (await parts.manage("GET", `/api/v1/models/${name}`)).status,
        (status) => status === 200,
      );
    },
    async envoyStats(filter) {
      const text = await askSocket(fleet.envoyAdmin, `/stats?filter=${encodeURIComponent(filter)}`);
      const lines = text.split("\n").map((line) => line.split(": "));
      return new Map(lines.flatMap(([name = "", value]) => (/^\d+$/.test(value ?? "") ? [[name, Number(value)] as const] : [])));
    },
    envoyConfig: (resource) => askSocket(fleet.envoyAdmin, `/config_dump?resource=${resource}`),
    async envoyWork() {
      const lines = (await askSocket(fleet.envoyAdmin, "/clusters")).split("\n");
      const told = /::(cx_active|cx_connect_fail|rq_active|rq_error|rq_timeout|rq_total)::(?!0$)/;
      const listening = await askSocket(fleet.envoyAdmin, "/stats?filter=downstream_(cx|rq)_active$&usedonly");
      return [...lines.filter((line) => told.test(line)), ...listening.split("\n")].join("\n");
    },
    async serverRequests() {
      let sum = 0;
      for (let pod = 0; pod < pods; pod++) {
        const stats: unknown = JSON.parse(await askSocket(join(dirname(fleet.envoyAdmin), `pod-${pod}.sock`), "/stats"));
        if (typeof stats !== "object" || stats === null || !("requests" in stats) || typeof stats.requests !== "number") {
          throw new Error(`pod-${pod} does not tell its requests: ${JSON.stringify(stats)}`);
        }
        sum += stats.requests;
      }
      return sum;
    },
    process(name) {
      const found = fleet.processes.get(name);
      if (found === undefined) throw new Error(`there is no process ${name}, but ${[...fleet.processes.keys()].join(", ")}`);
      return found;
    },
    async tail(name) {
      const text = await readFile(join(state.logFolder, `${name}.log`), "utf8").catch(String);
      return text.split("\n").slice(-30).join("\n");
    },
    async whenServing() {
      await waitUntil(
        "the fleet serves",
        async () => ({
          processes: Object.fromEntries([...fleet.processes].map(([name, { state }]) => [name, state.kind])),
          linkedPods: await management.linkedPods(),
          gatewayReady: await management.isReady(),
        }),
        ({ processes, linkedPods, gatewayReady }) =>
          linkedPods === pods && gatewayReady && Object.values(processes).every((kind) => kind === "ready"),
        startMs,
      );
    },
  };
  try {
    await parts.whenServing();
  } catch (error) {
    const tails = await Promise.all([...fleet.processes.keys()].map(async (name) => `--- ${name}\n${await parts.tail(name)}`));
    throw new Error(`the fleet did not start\n${tails.join("\n")}`, { cause: error });
  }
  const opened = opening.move();
  return { ...parts, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

/** The first port of each kind: those of the other gateways follow, and nobody else of the fleet takes any of them. */
type Ports = readonly [http: number, grpc: number, admin: number, modelmesh: number];

async function findPorts(pods: number, gateways: number): Promise<Ports> {
  const free = new Set((await findFreePorts(loopback, pods * 3 + 10 * gateways + 4)).slice(pods * 3));
  const firsts: number[] = [];
  for (const port of free) {
    const run = Array.from({ length: gateways }, (_, at) => port + at);
    if (!run.every((each) => free.has(each))) continue;
    firsts.push(port);
    for (const taken of run) free.delete(taken);
  }
  const [http, grpc, admin, modelmesh] = firsts;
  if (http === undefined || grpc === undefined || admin === undefined || modelmesh === undefined)
    throw new Error("there are too few free ports side by side");
  return [http, grpc, admin, modelmesh];
}

/** For a process of ours: the wall clock, and nothing else, is off. */
function wrongClock(byMs: number): Readonly<Record<string, string>> {
  if (byMs === 0) return {};
  const code = `const now=Date.now;Date.now=()=>now()+${byMs};const R=Date;globalThis.Date=class extends R{constructor(...a){if(a.length===0)super(Date.now());else super(...a)}};`;
  return { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(code)}` };
}

async function askSocket(socketPath: string, path: string): Promise<string> {
  const client = new Client("http://localhost", { socketPath, headersTimeout: 5_000, bodyTimeout: 5_000 });
  try {
    const { statusCode, body } = await client.request({ method: "GET", path });
    const text = await body.text();
    if (statusCode !== 200) throw new Error(`${socketPath}${path} answered ${statusCode} ${text}`);
    return text;
  } finally {
    await client.destroy();
  }
}
