// Owns the gateway's settings, as its command line gives them.
import { z } from "zod";
import { parseFlags, portOption } from "#platform/config.ts";
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
  maxParkMs: whole(1_000, 3_500_000).default(600_000),
  maxWaiting: whole(1, 1_000_000).default(20_000),
  loadTimeoutMs: whole(100, 3_500_000).default(120_000),
  /** Base address of an OTLP/HTTP collector; nothing is traced without it. */
  otlpEndpoint: z.url().optional(),
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
