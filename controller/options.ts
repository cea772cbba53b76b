// Owns the controller's settings, as its command line gives them.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { durationMsOption, parseFlags } from "#platform/config.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { registryFlags } from "#platform/registry/target.ts";

const whole = (least: number, most: number): z.ZodType<number> => z.coerce.number().int().min(least).max(most);
const name = z.string().regex(/^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/, { error: "must be a name of Kubernetes" });
const yes = z.enum(["true", "false"], { error: "must be true or false" }).transform((text) => text === "true");

const json = z.string().transform((text, context): unknown => {
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch {
    context.addIssue({ code: "custom", message: "must be JSON" });
    return z.NEVER;
  }
});

export const controllerFlags = z.object({
  namespace: name.describe("namespace whose objects are served"),
  kubeconfig: z
    .string()
    .min(1)
    .optional()
    .describe("file that says how to reach the API server; that of the pod, or the user's own, when absent"),
  ...registryFlags,
  adapterRegistry: json
    .pipe(z.array(z.string()).max(32))
    .optional()
    .describe("flags that lead adapters to the registry, as a JSON list; those of the controller when absent"),
  gateways: z
    .string()
    .transform((text) => text.split(",").map((url) => url.replace(/\/+$/, "")))
    .pipe(
      z
        .array(z.url({ protocol: /^https?$/ }))
        .min(1)
        .max(64),
    )
    .describe("addresses of gateways' management APIs, with commas between them"),
  gatewayCa: z
    .string()
    .min(1)
    .optional()
    .describe("PEM file of the authorities of gateways' certificates; for https:// addresses"),
  gatewayTokenFile: z.string().min(1).optional().describe("file with the token that the management API asks for"),
  serviceName: name
    .default("modelmesh-serving")
    .describe("name of the Service of the gateways; names of runtimes' Deployments begin with it"),
  serviceTls: yes.default(false).describe("true when clients reach the service over TLS"),
  image: z.string().min(1).describe("image of adapters and of the built-in model server"),
  imagePullPolicy: z.enum(["Always", "IfNotPresent", "Never"]).default("IfNotPresent").describe("Always, IfNotPresent or Never"),
  imagePullSecrets: json
    .pipe(z.array(z.object({ name: z.string() })).max(32))
    .default([])
    .describe("as a JSON list of {name}"),
  callersProve: yes.default(false).describe("true when gateways ask callers who they are, for the status of AccessPolicies"),
  storageSecret: name.default("storage-config").describe("secret with the storage settings"),
  etcdSecret: name.optional().describe("secret with etcd's certificates or password, mounted in pods of runtimes"),
  peerSecret: name
    .optional()
    .describe("secret with ca.crt, tls.crt and tls.key by which adapters prove to gateways who they are; plain text without"),
  podsPerRuntime: whole(1, 65_535)
    .default(2)
    .describe("pods of each runtime while it is in use, unless the runtime says replicas"),
  maxPodsPerRuntime: whole(1, 65_535).default(10).describe("most pods of a runtime"),
  scaleDownAfter: durationMsOption.default(300_000).describe("how long one pod less must have done before one is taken away"),
  scaleToZero: yes.default(true).describe("true: a runtime that no model could use has no pods"),
  scaleToZeroGrace: durationMsOption.default(60_000).describe("how long it keeps them"),
  sleep: yes.default(false).describe("true: a runtime without requests has no pods either; a request wakes it"),
  sleepAfter: durationMsOption.default(1_800_000).describe("how long without requests"),
  allowAnyPvc: yes.default(false).describe("true: claims that models name are mounted without being in the storage settings"),
  clusterRuntimes: z
    .enum(["ignore", "read", "report"])
    .default("report")
    .describe("cluster-wide runtimes: ignore, read, or report in their status too"),
  restricted: yes.default(true).describe("true: pods satisfy the Pod Security Standard restricted"),
  runtimeServiceAccount: name.optional().describe("service account of runtimes' pods"),
  adapterResources: json
    .pipe(z.record(z.string(), z.unknown()))
    .default({})
    .describe("resources of adapters' containers, as JSON"),
  adapterArgs: json
    .pipe(z.array(z.string().startsWith("--")).max(64))
    .default([])
    .describe("further flags of adapters, as a JSON list"),
  podLabels: json.pipe(z.record(z.string(), z.string())).default({}).describe("further labels of runtimes' pods, as JSON"),
  podAnnotations: json
    .pipe(z.record(z.string(), z.string()))
    .default({})
    .describe("further annotations of runtimes' pods, as JSON"),
  gatewayLabels: json
    .pipe(z.record(z.string(), z.string()))
    .default({ "app.kubernetes.io/component": "gateway" })
    .describe("labels by which network policies know the gateways, as JSON"),
  drainSeconds: whole(0, 600).default(30).describe("how long a pod that was told to stop serves on while others take its models"),
  leaseName: name.default("warmpath-controller").describe("Lease by which one of several controllers is chosen"),
  identity: z.string().min(1).max(253).optional().describe("name of this controller among them; its host's when absent"),
  healthPort: whole(0, 65_535).optional().describe("port of /healthz and /metrics; nowhere when absent"),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info").describe("debug, info, warn, error or silent"),
});

export type ControllerOptions = Readonly<z.output<typeof controllerFlags>>;

/** `--namespace NS --registry etcd://... --gateways http://... --image IMAGE ...`; throws a StartupError that says what is wrong. */
export function parseControllerOptions(argv: readonly string[]): ControllerOptions {
  return parseFlags(controllerFlags, argv);
}

/** Read anew for each call, since it is renewed. */
export function tokenReader(file: string | undefined): () => Promise<string | undefined> {
  if (file === undefined) return async () => undefined;
  return async () => {
    try {
      return readFileSync(file, "utf8").trim();
    } catch (cause) {
      throw new StartupError(`the token file ${file} cannot be read`, { cause });
    }
  };
}
