// Owns `warmpath envoy-bootstrap`: the files that an Envoy starts with, written into a folder that it can read.

import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { toBinary } from "@bufbuild/protobuf";
import { z } from "zod";
import { errorMessage } from "#core/errors.ts";
import { longestLoadMs } from "#core/loadqueue.ts";
import { readAuthFile } from "#envoy/authfile.ts";
import { buildBootstrap } from "#envoy/bootstrap.ts";
import { defaultLimits } from "#envoy/limits.ts";
import type { BootstrapOptions } from "#envoy/options.ts";
import { buildSecrets } from "#envoy/tls.ts";
import {
  describeFlags,
  otlpEndpointOption,
  otlpProtocolOption,
  parseFlags,
  portOption,
  traceShareOption,
} from "#platform/config.ts";
import { StartupError, UsageError } from "#platform/lifecycle.ts";
import { chooseOtlpProtocol } from "#platform/telemetry.ts";
import { BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { DiscoveryResponseSchema } from "#proto/gen/envoy/service/discovery/v3/discovery_pb.ts";

const socketPath = z.string({ error: "must be a path" }).startsWith("/", { error: "must be an absolute path" }).max(100);
const file = z.string().startsWith("/", { error: "must be an absolute path" });
const whole = (least: number, most: number): z.ZodType<number> => z.coerce.number().int().min(least).max(most);

export const bootstrapFlags = z.object({
  out: z
    .string({ error: "must name a folder" })
    .min(1)
    .describe("folder that envoy.pb is written into, made when it is not there"),
  nodeId: z
    .string({ error: "must name the Envoy" })
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, { error: "must be a plain name" })
    .describe("name of this Envoy, the same after a restart"),
  socket: socketPath.describe("unix socket of its gateway: the gateway's --socket"),
  envoyAdmin: socketPath.describe("unix socket of its admin interface: the gateway's --envoy-admin"),
  host: z.string().min(1).default("127.0.0.1").describe("address of the inference ports"),
  httpPort: portOption.default(8008).describe("REST inference"),
  grpcPort: portOption.default(8033).describe("gRPC inference"),
  maxMessageBytes: whole(1_024, 2 ** 30)
    .default(16 * 2 ** 20)
    .describe("largest gRPC message"),
  maxParkMs: whole(1_000, longestLoadMs).default(600_000).describe("the gateway's --max-park-ms"),
  maxConnections: whole(1, 1_000_000)
    .default(defaultLimits.maxConnections)
    .describe("connections of clients on both ports; a further one is closed at once"),
  maxHeapBytes: whole(64 * 2 ** 20, 2 ** 40)
    .default(defaultLimits.maxHeapBytes)
    .describe("memory that Envoy may take before it refuses requests; leave some of its container's limit free"),
  tlsCert: file.optional().describe("PEM certificate of the inference ports; plain text without"),
  tlsKey: file.optional().describe("PEM key of --tls-cert"),
  plainText: z.boolean().default(false).describe("with --tls-cert: the same ports answer plain text, too"),
  clientCa: file.optional().describe("PEM authorities that clients must prove themselves to"),
  auth: file.optional().describe("the gateway's --auth: how callers prove who they are"),
  otlpEndpoint: otlpEndpointOption
    .optional()
    .describe("the gateway's --otlp-endpoint: base address of an OTLP collector; nothing is traced without it"),
  otlpProtocol: otlpProtocolOption.optional().describe("http or grpc; by the endpoint's port when absent: 4317 is gRPC"),
  traceShare: traceShareOption
    .default(1)
    .describe("of requests that come without a trace context, the share that is traced: 0 to 1"),
});

export function describeBootstrap(): string {
  return describeFlags(bootstrapFlags);
}

export async function runBootstrap(argv: readonly string[]): Promise<void> {
  const flags = parseFlags(bootstrapFlags, argv);
  const { out, host, httpPort, grpcPort, tlsCert, tlsKey, plainText, clientCa, auth, socket, envoyAdmin } = flags;
  const { nodeId, maxMessageBytes, maxParkMs, maxConnections, maxHeapBytes, otlpEndpoint, otlpProtocol, traceShare } = flags;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) throw new UsageError("--tls-cert and --tls-key go together");
  if (clientCa !== undefined && tlsCert === undefined) throw new UsageError("--client-ca needs --tls-cert and --tls-key");
  if (plainText && tlsCert === undefined)
    throw new UsageError("--plain-text needs --tls-cert and --tls-key: without these all is");
  if (plainText && clientCa !== undefined)
    throw new UsageError("--plain-text and --client-ca exclude each other: in plain text there is no certificate");
  const folder = resolve(out);
  const callers = auth === undefined ? undefined : await readAuthFile(auth);
  const written = await writeEnvoyFiles(folder, {
    nodeId,
    maxMessageBytes,
    maxParkMs,
    limits: { maxConnections, maxHeapBytes },
    auth: callers,
    adminSocket: envoyAdmin,
    gatewaySocket: socket,
    http: { host, port: httpPort },
    grpc: { host, port: grpcPort },
    tracing:
      otlpEndpoint === undefined
        ? undefined
        : { endpoint: otlpEndpoint, protocol: otlpProtocol ?? chooseOtlpProtocol(otlpEndpoint), share: traceShare },
    tls:
      tlsCert === undefined || tlsKey === undefined
        ? undefined
        : { certFile: tlsCert, keyFile: tlsKey, clientCaFile: clientCa, plainText, secretsFolder: folder },
  }).catch((cause: unknown) => {
    throw new StartupError(`the configuration cannot be written: ${errorMessage(cause)}`, { cause });
  });
  process.stdout.write(`${written}\n`);
}

/** Returns the path of the bootstrap. */
export async function writeEnvoyFiles(folder: string, options: BootstrapOptions, name = "envoy.pb"): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const [secret, response] of options.tls === undefined ? [] : buildSecrets(options.tls)) {
    await writeFile(join(folder, secret), toBinary(DiscoveryResponseSchema, response));
  }
  const bootstrap = join(folder, name);
  await writeFile(bootstrap, toBinary(BootstrapSchema, buildBootstrap(options)));
  return bootstrap;
}
