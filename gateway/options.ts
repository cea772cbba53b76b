// Owns the gateway's settings, as its command line gives them.

import { z } from "zod";
import { longestLoadMs } from "#core/loadqueue.ts";
import { defaultScalingPolicy, type ScalingPolicy } from "#core/scaling.ts";
import {
  durationMsOption,
  otlpEndpointOption,
  otlpProtocolOption,
  parseFlags,
  portOption,
  traceShareOption,
} from "#platform/config.ts";
import { registryFlags } from "#platform/registry/target.ts";

const whole = (least: number, most: number): z.ZodType<number> => z.coerce.number().int().min(least).max(most);

export const gatewayOptions = z.object({
  gatewayId: z
    .string({ error: "must name this gateway" })
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, { error: "must be a plain name" })
    .describe("name among all gateways, the same after a restart"),
  socket: z
    .string({ error: "must be a path" })
    .min(1)
    .max(100, { error: "must be a path of at most 100 characters" })
    .describe("unix socket on which the Envoy beside it finds this gateway"),
  envoyAdmin: z
    .string()
    .max(100)
    .optional()
    .describe("unix socket of that Envoy's admin interface, for its counters; nothing is counted without it"),
  ...registryFlags,
  registryPatience: durationMsOption
    .default(600_000)
    .describe("how long a registry that does not answer is waited for at the start"),
  adminHost: z.string().default("127.0.0.1").describe("address of the management API"),
  adminPort: portOption.default(8080).describe("port of the management API"),
  adminCert: z
    .string()
    .min(1)
    .optional()
    .describe("PEM file of the certificate of the management API; plain text without --admin-cert, --admin-key"),
  adminKey: z.string().min(1).optional().describe("PEM file of its key"),
  adminTokens: z
    .string()
    .min(1)
    .optional()
    .describe("file of the tokens of the management API; everybody who can reach its port may call it without"),
  adminAccounts: z
    .string()
    .regex(/^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/)
    .optional()
    .describe("namespace of a Kubernetes whose accounts' tokens count as well, as far as their rights in it go"),
  kubeApi: z
    .url({ protocol: /^https$/ })
    .default("https://kubernetes.default.svc")
    .transform((url) => url.replace(/\/+$/, ""))
    .describe("address of the API server that knows these accounts"),
  kubeAccount: z
    .string()
    .min(1)
    .default("/var/run/secrets/kubernetes.io/serviceaccount")
    .describe("folder with token and ca.crt, by which the gateway asks it"),
  peerHost: z.string().min(1).max(253).default("127.0.0.1").describe("address on which other gateways find this one"),
  peerPort: portOption.default(0).describe("port on which other gateways find this one; 0 takes a free one"),
  peerName: z
    .string()
    .min(1)
    .max(253)
    .optional()
    .describe("host by which other gateways find this one, when it is not the address that it listens on"),
  copyRate: z.coerce
    .number()
    .min(0.01)
    .max(1e6)
    .default(defaultScalingPolicy.ratePerCopy)
    .describe("requests per second that one copy of a model is meant to bear; more get more copies"),
  copyConcurrency: z.coerce
    .number()
    .min(0.01)
    .max(1e6)
    .default(defaultScalingPolicy.concurrencyPerCopy)
    .describe("requests at a time that one copy is meant to bear"),
  secondCopyAfterMs: whole(0, 86_400_000)
    .default(defaultScalingPolicy.secondCopyAfterMs)
    .describe("a model that is used for so long without a pause gets a second copy"),
  maxParkMs: whole(1_000, longestLoadMs).default(600_000).describe("longest wait of a request for its model, in ms"),
  maxWaiting: whole(1, 1_000_000).default(20_000).describe("requests that may wait at a time"),
  loadTimeoutMs: whole(100, longestLoadMs)
    .default(120_000)
    .describe("time for one load before another pod is tried, in ms; longer on a pod that says that its loads take longer"),
  metricsHost: z.string().min(1).default("127.0.0.1").describe("address of --metrics-port"),
  metricsPort: portOption
    .optional()
    .describe(
      "port of /metrics alone, for scrapers without a token, by the certificate of the management API; not served without, 0 takes a free one",
    ),
  modelmeshMetrics: z.boolean().default(false).describe("also tell the metrics under the names that ModelMesh had"),
  modelMetrics: whole(0, 10_000).default(0).describe("count requests for so many models each; 0 for none"),
  modelmeshPort: portOption
    .optional()
    .describe("port of ModelMesh's gRPC management, on --admin-host; not served without, 0 takes a free one"),
  keepRevisionsMs: whole(0, 2 ** 31 - 1)
    .default(900_000)
    .describe("how long revisions that were active stay after another was promoted, in ms"),
  keepRevisions: whole(0, 15).default(3).describe("how many of them stay"),
  drain: durationMsOption.default(10_000).describe("after SIGTERM, how long waiting requests are still waited for"),
  linger: durationMsOption.default(0).describe("after SIGTERM, how long its Envoy asks clients to go elsewhere before the drain"),
  exitWithParent: z.boolean().default(false).describe("end when standard input does: for a supervisor's child"),
  otlpEndpoint: otlpEndpointOption.optional().describe("base address of an OTLP collector; nothing is traced without it"),
  otlpProtocol: otlpProtocolOption.optional().describe("http or grpc; by the endpoint's port when absent: 4317 is gRPC"),
  traceShare: traceShareOption
    .default(1)
    .describe("of requests that come without a trace context, the share that is traced: 0 to 1"),
  auth: z
    .string()
    .min(1)
    .optional()
    .describe("file that says how callers prove who they are, the same as Envoy was configured by; nobody has to without"),
  peerCa: z
    .string()
    .min(1)
    .optional()
    .describe(
      "PEM file of the authorities that peers prove themselves to; plain text without --peer-ca, --peer-cert, --peer-key",
    ),
  peerCert: z.string().min(1).optional().describe("PEM file of this process's certificate among its peers"),
  peerKey: z.string().min(1).optional().describe("PEM file of its key"),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info").describe("debug, info, warn, error or silent"),
});

export type GatewayOptions = Readonly<z.infer<typeof gatewayOptions>>;

/** `--gateway-id ID --socket PATH --registry FILE ...`; throws a StartupError that says what is wrong. */
export function parseGatewayOptions(argv: readonly string[]): GatewayOptions {
  return parseFlags(gatewayOptions, argv);
}

export function scalingPolicyOf({ copyRate, copyConcurrency, secondCopyAfterMs }: GatewayOptions): ScalingPolicy {
  return { ...defaultScalingPolicy, ratePerCopy: copyRate, concurrencyPerCopy: copyConcurrency, secondCopyAfterMs };
}
