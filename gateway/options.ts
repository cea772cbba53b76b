// Owns the gateway's settings, as its command line gives them.
import { z } from "zod";
import { defaultScalingPolicy } from "#core/scaling.ts";
import { otlpEndpointOption, otlpProtocolOption, parseFlags, portOption, traceShareOption } from "#platform/config.ts";
import { registryFlags } from "#platform/registry/target.ts";

const whole = (least: number, most: number): z.ZodType<number> => z.coerce.number().int().min(least).max(most);

const schema = z.object({
  gatewayId: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
  /** Unix socket on which Envoy finds this gateway. */
  socket: z.string().min(1).max(100),
  /** Envoy's admin socket, for its counters; nothing is counted without it. */
  envoyAdmin: z.string().max(100).optional(),
  ...registryFlags,
  adminHost: z.string().default("127.0.0.1"),
  adminPort: portOption.default(8080),
  /** File of the tokens of the management API; everybody who can reach its port may call it without. */
  adminTokens: z.string().min(1).optional(),
  /** Where other gateways find this one. */
  peerHost: z.string().min(1).max(253).default("127.0.0.1"),
  peerPort: portOption.default(0),
  /** By which name, when it is not the host that it listens on. */
  peerName: z.string().min(1).max(253).optional(),
  /** Requests per second that one copy of a model is meant to bear; more get more copies. */
  copyRate: z.coerce.number().min(0.01).max(1e6).default(defaultScalingPolicy.ratePerCopy),
  /** Requests at a time, likewise. */
  copyConcurrency: z.coerce.number().min(0.01).max(1e6).default(defaultScalingPolicy.concurrencyPerCopy),
  /** A model that is used for so long without a pause gets a second copy. */
  secondCopyAfterMs: whole(0, 86_400_000).default(defaultScalingPolicy.secondCopyAfterMs),
  maxParkMs: whole(1_000, 3_500_000).default(600_000),
  maxWaiting: whole(1, 1_000_000).default(20_000),
  loadTimeoutMs: whole(100, 3_500_000).default(120_000),
  /** Also tell the metrics under the names that ModelMesh had. */
  modelmeshMetrics: z.boolean().default(false),
  /** Count requests for so many models each; 0 for none. */
  modelMetrics: whole(0, 10_000).default(0),
  /** How long, and how many, revisions that were active stay after another was promoted. */
  keepRevisionsMs: whole(0, 2 ** 31 - 1).default(900_000),
  keepRevisions: whole(0, 15).default(3),
  /** Base address of an OTLP/HTTP collector; nothing is traced without it. */
  /** File that says how callers prove who they are, the same as Envoy was configured by; nobody has to without. */
  auth: z.string().min(1).optional(),
  otlpEndpoint: otlpEndpointOption.optional(),
  /** By the endpoint's port when absent: 4317 is gRPC. */
  otlpProtocol: otlpProtocolOption.optional(),
  /** Of requests that come without a trace context, the share that is traced. */
  traceShare: traceShareOption.default(1),
  /** PEM files of this process's identity among its peers; they speak in plain text without. All three, or none. */
  peerCa: z.string().min(1).optional(),
  peerCert: z.string().min(1).optional(),
  peerKey: z.string().min(1).optional(),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
});

export type GatewayOptions = Readonly<z.infer<typeof schema>>;

/** `--gateway-id ID --socket PATH --registry FILE ...`; throws a StartupError that says what is wrong. */
export function parseGatewayOptions(argv: readonly string[]): GatewayOptions {
  return parseFlags(schema, argv);
}
