// Owns the options of `warmpath up`.
import { resolve } from "node:path";
import { z } from "zod";
import type { EnvoyLimits } from "#envoy/limits.ts";
import type { TracingOptions } from "#envoy/tracing.ts";
import {
  durationMsOption,
  otlpEndpointOption,
  otlpProtocolOption,
  parseOptions,
  portOption,
  sizeBytesOption,
  traceShareOption,
} from "#platform/config.ts";
import { StartupError, UsageError } from "#platform/lifecycle.ts";
import { parseRegistryTarget, type RegistryTarget, registryFlags } from "#platform/registry/target.ts";
import { chooseOtlpProtocol } from "#platform/telemetry.ts";
import { type Processors, parseProcessors } from "./processors.ts";
import type { TlsOptions } from "./tls.ts";

const count = (most: number): z.ZodType<number, string> =>
  z
    .string()
    .regex(/^\d{1,6}$/, { error: "must be a whole number" })
    .transform(Number)
    .pipe(z.int().min(1).max(most));

const schema = z.object({
  host: z.string().default("127.0.0.1"),
  httpPort: portOption.default(8008),
  grpcPort: portOption.default(8033),
  adminPort: portOption.default(8080),
  modelmeshPort: portOption.optional(),
  portOffset: z
    .string()
    .regex(/^\d{1,5}$/, { error: "must be a whole number" })
    .transform(Number)
    .default(0),
  gateways: count(16).default(1),
  pods: count(64).default(2),
  hitProcessors: z
    .string()
    .transform(parseProcessors)
    .pipe(z.custom<Processors>(Array.isArray, { error: "must be numbers of processors, such as 0-2,5" }))
    .optional(),
  hitsFirst: z.boolean().default(false),
  etcd: z.boolean().default(false),
  ...registryFlags,
  registry: registryFlags.registry.optional(),
  capacity: sizeBytesOption.default(14 * 2 ** 20),
  state: z.string().default(".warmpath"),
  storageConfig: z.string().min(1).optional(),
  for: durationMsOption.optional(),
  concurrency: count(4_096).default(16),
  json: z.boolean().default(false),
  tls: z.boolean().default(false),
  tlsCert: z.string().min(1).optional(),
  tlsKey: z.string().min(1).optional(),
  plainText: z.boolean().default(false),
  clientCa: z.string().min(1).optional(),
  auth: z.string().min(1).optional(),
  otlpEndpoint: otlpEndpointOption.optional(),
  otlpProtocol: otlpProtocolOption.optional(),
  traceShare: traceShareOption.default(1),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info"),
});

const leastCapacityBytes = 256 * 2 ** 10;

export interface UpOptions {
  readonly host: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly adminPort: number;
  /** Of ModelMesh's management over gRPC; not served when absent. */
  readonly modelmeshPort?: number | undefined;
  /** Each with its own Envoy; the ports of the next one are one higher. One when absent. */
  readonly gateways?: number;
  readonly pods: number;
  /** Where the registry is: `start` an etcd, an etcd that is there, or a file in the state folder when absent. */
  readonly registry?: "start etcd" | RegistryTarget | undefined;
  readonly capacityBytes: number;
  /** Of Envoys and model servers alone; all share all when absent. */
  readonly hitProcessors?: Processors | undefined;
  /** What a hit passes runs before all else of the machine; as all when absent. */
  readonly hitsFirst?: boolean;
  readonly stateFolder: string;
  /** The folder of the storage settings; none when undefined. */
  readonly storageConfig?: string | undefined;
  /** Drive traffic for so long, then end. */
  readonly forMs: number | undefined;
  readonly concurrency: number;
  readonly json: boolean;
  /** Of the file that says how callers prove who they are; nobody has to when undefined. */
  readonly authFile?: string | undefined;
  /** Plain text when undefined. */
  readonly tls?: TlsOptions | undefined;
  /** Nothing is traced when undefined. */
  readonly tracing?: TracingOptions | undefined;
  /** Envoy's own when absent. */
  readonly limits?: EnvoyLimits | undefined;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly envoyBinary: string;
  readonly libraryFolder: string;
}

export function parseUpOptions(input: unknown, env: Readonly<Record<string, string | undefined>>): UpOptions {
  const given = parseOptions(schema, input);
  if (given.capacity < leastCapacityBytes) throw new UsageError("--capacity must be at least 256Ki: less holds no model");
  if (given.for === 0) throw new UsageError("--for must be longer than nothing");
  checkPorts(given);
  const port = (base: number): number => {
    const shifted = base + given.portOffset;
    if (shifted + given.gateways - 1 > 65_535)
      throw new UsageError(`port ${base} with --port-offset ${given.portOffset} is over 65535`);
    return shifted;
  };
  const envoyBinary = env["WARMPATH_ENVOY"];
  const libraryFolder = env["WARMPATH_LIBRARY"];
  if (envoyBinary === undefined || libraryFolder === undefined) {
    throw new StartupError("Envoy and the model library are not set up: start with `npm start`, which does that");
  }
  return {
    host: given.host,
    httpPort: port(given.httpPort),
    grpcPort: port(given.grpcPort),
    adminPort: port(given.adminPort),
    modelmeshPort: given.modelmeshPort === undefined ? undefined : port(given.modelmeshPort),
    gateways: given.gateways,
    pods: given.pods,
    registry: readRegistry(given),
    capacityBytes: given.capacity,
    hitProcessors: given.hitProcessors,
    hitsFirst: given.hitsFirst,
    stateFolder: resolve(given.state),
    storageConfig: given.storageConfig === undefined ? undefined : resolve(given.storageConfig),
    forMs: given.for,
    concurrency: given.concurrency,
    json: given.json,
    tls: readTls(given),
    authFile: given.auth === undefined ? undefined : resolve(given.auth),
    tracing:
      given.otlpEndpoint === undefined
        ? undefined
        : {
            endpoint: given.otlpEndpoint,
            protocol: given.otlpProtocol ?? chooseOtlpProtocol(given.otlpEndpoint),
            share: given.traceShare,
          },
    logLevel: given.logLevel,
    envoyBinary,
    libraryFolder,
  };
}

function checkPorts({ httpPort, grpcPort, adminPort, modelmeshPort, gateways }: z.output<typeof schema>): void {
  const flags = ["--http-port", "--grpc-port", "--admin-port", ...(modelmeshPort === undefined ? [] : ["--modelmesh-port"])];
  const bases = [httpPort, grpcPort, adminPort, ...(modelmeshPort === undefined ? [] : [modelmeshPort])];
  const all = bases.flatMap((base) => Array.from({ length: gateways }, (_, at) => base + at));
  if (new Set(all).size === all.length) return;
  const named = `${flags.slice(0, -1).join(", ")} and ${flags.at(-1)}`;
  const number = flags.length === 3 ? "three" : "four";
  throw new UsageError(
    gateways === 1
      ? `${named} must be ${number} ports`
      : `${named} must be at least ${gateways} apart, one port for each gateway`,
  );
}

function readRegistry(given: z.output<typeof schema>): UpOptions["registry"] {
  const { etcd, registry } = given;
  if (registry === undefined) {
    // Options of an etcd that is not named are refused like any that mean nothing.
    parseRegistryTarget({ ...given, registry: "registry.db" });
    return etcd ? "start etcd" : undefined;
  }
  if (etcd) throw new UsageError("--etcd starts an etcd, --registry names one that is there: give one of them");
  const target = parseRegistryTarget({ ...given, registry });
  if (target.kind === "embedded")
    throw new UsageError("--registry names an etcd: etcd://HOST:PORT/PREFIX; a file is kept in --state");
  return target;
}

/** Of options that cannot go together. */
function readTls(given: z.output<typeof schema>): TlsOptions | undefined {
  const { host, tls, tlsCert, tlsKey, clientCa, plainText } = given;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) throw new UsageError("--tls-cert and --tls-key go together");
  if (clientCa !== undefined && !tls && tlsCert === undefined) {
    throw new UsageError("--client-ca needs --tls, or --tls-cert and --tls-key");
  }
  if (plainText && !tls && tlsCert === undefined)
    throw new UsageError("--plain-text needs --tls, or --tls-cert and --tls-key: without these all is");
  if (plainText && clientCa !== undefined)
    throw new UsageError("--plain-text and --client-ca exclude each other: in plain text there is no certificate");
  const brought =
    tlsCert === undefined || tlsKey === undefined ? undefined : { certFile: resolve(tlsCert), keyFile: resolve(tlsKey) };
  if (!tls && brought === undefined) return undefined;
  if (given.for !== undefined && (brought !== undefined || clientCa !== undefined))
    throw new UsageError("--for has no certificate to be trusted with: use it with --tls alone");
  return { host, brought, clientCaFile: clientCa === undefined ? undefined : resolve(clientCa), plainText };
}
