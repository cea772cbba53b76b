// Owns the gateways of `warmpath up`: each with an Envoy, sockets and ports of its own.
import { join } from "node:path";
import { envoyArguments } from "#envoy/arguments.ts";
import { readAuthFile } from "#envoy/authfile.ts";
import { defaultLimits } from "#envoy/limits.ts";
import { openEnvoyAdmin } from "#gateway/envoyadmin.ts";
import type { ProcessOptions } from "#platform/process.ts";
import type { IdentityFiles } from "#platform/tls/authority.ts";
import { writeEnvoyFiles } from "../services/bootstrap.ts";
import { withRoomForFiles } from "./openfiles.ts";
import type { UpOptions } from "./options.ts";
import { dyingWithParent } from "./parentdeath.ts";
import type { UpTls } from "./tls.ts";

/** One gateway with its Envoy. */
export interface GatewayPlace {
  readonly gatewayId: string;
  /** Of the processes: `gateway` and `envoy`, with a number where there are several. */
  readonly gatewayName: string;
  readonly envoyName: string;
  readonly gatewaySocket: string;
  readonly envoyAdmin: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly adminPort: number;
  readonly modelmeshPort: number | undefined;
}

const maxMessageBytes = 16 * 2 ** 20;
export const maxParkMs = 600_000;
/** Threads of each Envoy that serve requests. */
const defaultWorkers = 2;
/** Files that an Envoy has open besides the connections of clients: mostly those to pods. */
const otherFiles = 4_000;

export function placeGateways(options: UpOptions, runFolder: string): readonly GatewayPlace[] {
  const { gateways = 1, httpPort, grpcPort, adminPort, modelmeshPort } = options;
  return Array.from({ length: gateways }, (_, at) => {
    const end = gateways === 1 ? "" : `-${at}`;
    return {
      gatewayId: `gateway-${at}`,
      gatewayName: `gateway${end}`,
      envoyName: `envoy${end}`,
      gatewaySocket: join(runFolder, `gateway${end}.sock`),
      envoyAdmin: join(runFolder, `envoy${end}.sock`),
      httpPort: httpPort + at,
      grpcPort: grpcPort + at,
      adminPort: adminPort + at,
      modelmeshPort: modelmeshPort === undefined ? undefined : modelmeshPort + at,
    };
  });
}

/** Writes its configuration. */
export async function buildEnvoy(
  place: GatewayPlace,
  options: UpOptions,
  tls: UpTls | undefined,
  runFolder: string,
): Promise<ProcessOptions> {
  const { envoyName, envoyAdmin } = place;
  const { host, hitProcessors } = options;
  const workers = hitProcessors?.length ?? defaultWorkers;
  const bootstrap = await writeEnvoyFiles(
    runFolder,
    {
      nodeId: place.gatewayId.replace("gateway", "envoy"),
      adminSocket: envoyAdmin,
      gatewaySocket: place.gatewaySocket,
      http: { host, port: place.httpPort },
      grpc: { host, port: place.grpcPort },
      maxMessageBytes,
      maxParkMs,
      limits: options.limits,
      tracing: options.tracing,
      auth: options.authFile === undefined ? undefined : await readAuthFile(options.authFile),
      tls: tls === undefined ? undefined : { ...tls.ports, secretsFolder: runFolder },
    },
    `${envoyName}.pb`,
  );
  const program = await dyingWithParent({ command: options.envoyBinary, args: envoyArguments(bootstrap, workers) });
  const { maxConnections } = options.limits ?? defaultLimits;
  return {
    name: envoyName,
    ...(await withRoomForFiles(program, maxConnections + otherFiles)),
    readyProbe: () => isLive(envoyAdmin),
    // Without a gateway it listens all the same, but only when it has waited for each part of its configuration.
    readyTimeoutMs: 120_000,
  };
}

/** Of its management API. */
export function adminFlags(tls: UpTls | undefined): Readonly<Record<string, string>> {
  return tls === undefined ? {} : { "admin-cert": tls.management.cert, "admin-key": tls.management.key };
}

/** Where the management API of one of them is, on this machine. */
export function managementUrl({ adminPort }: Pick<GatewayPlace, "adminPort">, isTls: boolean): string {
  return `${isTls ? "https" : "http"}://127.0.0.1:${adminPort}`;
}

export function peerFlags(files: IdentityFiles | undefined): Readonly<Record<string, string>> {
  return files === undefined ? {} : { "peer-ca": files.ca, "peer-cert": files.cert, "peer-key": files.key };
}

/** Envoy listens on its ports once it has its first configuration, which is later than its start. */
async function isLive(adminSocket: string): Promise<boolean> {
  const client = openEnvoyAdmin(adminSocket);
  try {
    const { statusCode, body } = await client.request({ method: "GET", path: "/ready" });
    await body.dump();
    return statusCode === 200;
  } finally {
    await client.destroy();
  }
}
