// Owns the adapter's settings, as its command line gives them.
import { z } from "zod";
import {
  durationMsOption,
  otlpEndpointOption,
  otlpProtocolOption,
  parseFlags,
  portOption,
  sizeBytesOption,
} from "#platform/config.ts";

import { StartupError } from "#platform/lifecycle.ts";
import { registryFlags } from "#platform/registry/target.ts";
import { type DriverName, driverFormats, driverNames } from "./drivers/names.ts";

const address = z
  .string({ error: "must be host:port" })
  .regex(/^(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):\d{1,5}$/, { error: "must be host:port" });
const absolutePath = z.string({ error: "must be an absolute path" }).startsWith("/", { error: "must be an absolute path" });
const serverAddress = z.string().regex(/^(?:unix:\/.{1,100}|(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):\d{1,5})$/, {
  error: "must be host:port or unix:/path",
});
const labels = z.string().transform((text, context) => {
  const found =
    text === "" ? [] : text.split(",").map((part) => /^([A-Za-z0-9][A-Za-z0-9._/-]{0,126})=([A-Za-z0-9._-]{0,63})$/.exec(part));
  if (found.length > 64 || found.includes(null)) {
    context.addIssue({ code: "custom", message: "must be key=value pairs with commas between them" });
    return z.NEVER;
  }
  return Object.fromEntries(found.map((pair) => [pair?.[1] ?? "", pair?.[2] ?? ""]));
});
const word = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, { error: "must be a plain name" });
const formats = z.string().transform((text, context) => {
  const found = text.split(",");
  if (
    found.length > 64 ||
    !found.every((format) => /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}(?::[A-Za-z0-9][A-Za-z0-9._-]{0,62})?$/.test(format))
  ) {
    context.addIssue({ code: "custom", message: "must be formats with commas between them, such as sklearn:1,xgboost" });
    return z.NEVER;
  }
  return found;
});
const whole = (least: number, most: number): z.ZodType<number> => z.coerce.number().int().min(least).max(most);

const schema = z.object({
  podId: z.string({ error: "must name the pod" }).regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, { error: "must be a plain name" }),
  /** The runtime's name, free to choose. */
  runtime: word,
  /** Which driver speaks to the model server; the runtime's name when that is a driver's. */
  driver: z.enum(driverNames, { error: `must be one of ${driverNames.join(", ")}` }).optional(),
  /** What the model server can serve, `sklearn` or `sklearn:1`; what its driver knows when absent. */
  formats: formats.optional(),
  linkHost: z.string().min(1).default("127.0.0.1"),
  linkPort: portOption.default(0),
  metricsHost: z.string().min(1).default("127.0.0.1"),
  /** Where /metrics is; 0 for a free port. None when absent. */
  metricsPort: portOption.optional(),
  /** Also tell the metrics under the names that ModelMesh had. */
  modelmeshMetrics: z.boolean().default(false),
  /** Of the built-in model server. */
  adminSocket: absolutePath.optional(),
  /** Where the model server is told to load, when that is not where it answers requests. */
  serverAddress: serverAddress.optional(),
  /** The folder that the model server reads models from. */
  repository: absolutePath.optional(),
  /** Where the adapter remembers its copies; beside the repository when absent. */
  records: absolutePath.optional(),
  restAddress: address,
  grpcAddress: address,
  capacityBytes: sizeBytesOption.pipe(
    z
      .int()
      .min(1)
      .max(2 ** 50),
  ),
  /** Kept free for the next load; a 64th of the capacity when absent. */
  headroomBytes: sizeBytesOption
    .pipe(
      z
        .int()
        .min(0)
        .max(2 ** 50),
    )
    .optional(),
  ...registryFlags,
  storageRoot: absolutePath,
  labels: labels.default({}),
  loadConcurrency: whole(1, 64).default(2),
  /** How long a pod that is asked to stop serves on while gateways find other places for what it holds. */
  drain: durationMsOption.default(60_000),
  minAge: durationMsOption.default(10_000),
  /** PEM files of this process's identity among its peers; they speak in plain text without. All three, or none. */
  peerCa: z.string().min(1).optional(),
  peerCert: z.string().min(1).optional(),
  peerKey: z.string().min(1).optional(),
  /** Base address of an OTLP collector; nothing is traced without it. */
  otlpEndpoint: otlpEndpointOption.optional(),
  /** By the endpoint's port when absent: 4317 is gRPC. */
  otlpProtocol: otlpProtocolOption.optional(),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
});

type Flags = z.output<typeof schema>;

export type AdapterOptions = Readonly<
  Omit<Flags, "driver" | "formats"> & { readonly driver: DriverName; readonly formats: readonly string[] }
>;

/** `--pod-id ID --runtime NAME --driver DRIVER ...`; throws a StartupError that says what is wrong. */
export function parseAdapterOptions(argv: readonly string[]): AdapterOptions {
  const flags = parseFlags(schema, argv);
  const driver = flags.driver ?? driverNames.find((name) => name === flags.runtime);
  if (driver === undefined) {
    throw new StartupError(
      `--driver is needed, since the runtime ${flags.runtime} is not named after one of ${driverNames.join(", ")}`,
    );
  }
  return { ...flags, driver, formats: flags.formats ?? driverFormats[driver] };
}
