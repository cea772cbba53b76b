// Owns the adapter's settings, as its command line gives them.

import { z } from "zod";
import { longestLoadMs } from "#core/loadqueue.ts";
import {
  durationMsOption,
  otlpEndpointOption,
  otlpProtocolOption,
  parseFlags,
  portOption,
  sizeBytesOption,
} from "#platform/config.ts";

import { UsageError } from "#platform/lifecycle.ts";
import { registryFlags } from "#platform/registry/target.ts";
import { type DriverName, driverFormats, driverNames } from "./drivers/names.ts";

const address = z
  .string({ error: "must be host:port" })
  .regex(/^(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):\d{1,5}$/, { error: "must be host:port" });
const absolutePath = z.string({ error: "must be an absolute path" }).startsWith("/", { error: "must be an absolute path" });
const serverAddress = z.string().regex(/^(?:unix:\/.{1,107}|(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):\d{1,5})$/, {
  error: "must be host:port or unix:/path",
});
const hostAndPort = z
  .string()
  .regex(/^(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):\d{1,5}$/, { error: "must be host:port" });
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

const memoryOption = sizeBytesOption.pipe(
  z
    .int()
    .min(1)
    .max(2 ** 50),
);

export const adapterFlags = z.object({
  podId: z
    .string({ error: "must name the pod" })
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, { error: "must be a plain name" })
    .describe("name among all pods"),
  runtime: word.describe("name of the kind of model server, free to choose"),
  driver: z
    .enum(driverNames, { error: `must be one of ${driverNames.join(", ")}` })
    .optional()
    .describe(`how the model server is spoken to: ${driverNames.join(", ")}; the runtime's name when that is one`),
  formats: formats.optional().describe("what it can serve, such as sklearn:1,xgboost; what its driver knows when absent"),
  linkHost: z.string().min(1).default("127.0.0.1").describe("address on which gateways find this adapter"),
  linkPort: portOption.default(0).describe("port on which gateways find this adapter; 0 takes a free one"),
  linkAdvertise: hostAndPort
    .optional()
    .describe(
      "HOST:PORT under which gateways find this adapter, when that is not where it listens, such as behind a translation",
    ),
  metricsHost: z.string().min(1).default("127.0.0.1").describe("address of /metrics"),
  metricsPort: portOption.optional().describe("port of /metrics; 0 takes a free one, none is opened when absent"),
  modelmeshMetrics: z.boolean().default(false).describe("also tell the metrics under the names that ModelMesh had"),
  adminSocket: absolutePath.optional().describe("unix socket of the built-in model server's own management"),
  serverAddress: serverAddress
    .optional()
    .describe("where the model server is told to load, when that is not where it answers requests: HOST:PORT or unix:/PATH"),
  serverFetches: z
    .boolean()
    .default(false)
    .describe("the model server fetches artefacts by itself and is told where they lie (modelmesh)"),
  serverLimits: z
    .boolean()
    .default(false)
    .describe(
      "what the model server says of its capacity and its loads at a time counts, where it says more too, rather than as a bound (modelmesh)",
    ),
  repository: absolutePath.optional().describe("folder that the model server reads models from"),
  ovmsConfig: absolutePath
    .optional()
    .describe("configuration file of OpenVINO Model Server; model_config_list.json beside the repository when absent"),
  records: absolutePath.optional().describe("where the adapter remembers its copies; beside the repository when absent"),
  restAddress: address
    .optional()
    .describe(
      "HOST:PORT where Envoy finds the model server over REST; absent: it speaks V2 over gRPC alone, which REST is put into",
    ),
  grpcAddress: address.describe("HOST:PORT where Envoy finds it over gRPC"),
  capacityBytes: memoryOption.describe("memory for models, such as 512Mi"),
  acceleratorBytes: memoryOption
    .optional()
    .describe("memory for models on each accelerator, where the model server tells what they take there (triton)"),
  memoryLimit: memoryOption
    .optional()
    .describe("what the model server's processes may take in all, where they can be seen; copies leave before it is reached"),
  headroomBytes: sizeBytesOption
    .pipe(
      z
        .int()
        .min(0)
        .max(2 ** 50),
    )
    .optional()
    .describe("memory kept free for the next load; a 64th of the capacity when absent"),
  ...registryFlags,
  storageRoot: absolutePath.describe("folder outside of which no file:// artefact is read"),
  storageConfig: absolutePath.optional().describe("folder of the storage settings, as the secret storage-config is mounted"),
  cacheDir: absolutePath
    .optional()
    .describe("folder where artefacts from elsewhere are kept; without it only file:// addresses can be loaded"),
  cacheReadable: z
    .boolean()
    .default(false)
    .describe("other users of the machine may read what is kept there, for a model server that runs as another user"),
  cacheBytes: sizeBytesOption
    .pipe(
      z
        .int()
        .min(2 ** 20)
        .max(2 ** 50),
    )
    .default(10 * 2 ** 30)
    .describe("bytes of artefacts kept there"),
  pvcRoot: absolutePath.default("/pvc_mounts").describe("folder below which each claim is mounted under its own name"),
  allowPrivateAddresses: z
    .boolean()
    .default(false)
    .describe("web servers and registries that models name may have private addresses"),
  ambientCredentials: z
    .boolean()
    .default(false)
    .describe("the pod's own credentials count where the storage settings have no entry"),
  labels: labels.default({}).describe("labels of the pod, such as zone=a,disk=ssd"),
  loadTimeout: durationMsOption
    .pipe(z.int().min(100).max(longestLoadMs))
    .optional()
    .describe("time for one load, pull included; what the model server says counts more (modelmesh); 2m when absent"),
  loadConcurrency: whole(1, 64).default(2).describe("loads at a time"),
  drain: durationMsOption.default(60_000).describe("how long a pod that is asked to stop serves on while others take its models"),
  minAge: durationMsOption.default(10_000).describe("a copy younger than this is evicted only for a waiting user"),
  exitWithParent: z.boolean().default(false).describe("end when standard input does: for a supervisor's child"),
  peerCa: z
    .string()
    .min(1)
    .optional()
    .describe(
      "PEM file of the authorities that peers prove themselves to; plain text without --peer-ca, --peer-cert, --peer-key",
    ),
  peerCert: z.string().min(1).optional().describe("PEM file of this process's certificate among its peers"),
  peerKey: z.string().min(1).optional().describe("PEM file of its key"),
  otlpEndpoint: otlpEndpointOption.optional().describe("base address of an OTLP collector; nothing is traced without it"),
  otlpProtocol: otlpProtocolOption.optional().describe("http or grpc; by the endpoint's port when absent: 4317 is gRPC"),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info").describe("debug, info, warn, error or silent"),
});

type Flags = z.output<typeof adapterFlags>;

export type AdapterOptions = Readonly<
  Omit<Flags, "driver" | "formats" | "restAddress"> & {
    readonly driver: DriverName;
    readonly formats: readonly string[];
    /** Of its gRPC, where that is all it has. */
    readonly restAddress: string;
    readonly restByGrpc: boolean;
  }
>;

/** `--pod-id ID --runtime NAME --driver DRIVER ...`; throws a UsageError that says what is wrong. */
export function parseAdapterOptions(argv: readonly string[]): AdapterOptions {
  const flags = parseFlags(adapterFlags, argv);
  const driver = flags.driver ?? driverNames.find((name) => name === flags.runtime);
  if (driver === undefined) {
    throw new UsageError(
      `--driver is needed, since the runtime ${flags.runtime} is not named after one of ${driverNames.join(", ")}`,
    );
  }
  const restByGrpc = flags.restAddress === undefined;
  if (restByGrpc && driver !== "modelmesh") throw new UsageError(`--rest-address is needed: ${driver} serves REST`);
  const restAddress = flags.restAddress ?? flags.grpcAddress;
  return { ...flags, driver, restAddress, restByGrpc, formats: flags.formats ?? formatsOf(driver, flags.runtime) };
}

function formatsOf(driver: DriverName, runtime: string): readonly string[] {
  const known = driverFormats[driver];
  return known.length > 0 ? known : [runtime];
}
