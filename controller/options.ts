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
  /** The namespace whose objects are served. */
  namespace: name,
  /** File that says how to reach the API server; that of the pod, or the user's own, when absent. */
  kubeconfig: z.string().min(1).optional(),
  ...registryFlags,
  /** Flags that lead adapters to the registry, as a JSON list; those of the controller when absent. */
  adapterRegistry: json.pipe(z.array(z.string()).max(32)).optional(),
  /** Addresses of gateways' management APIs, with commas between them. */
  gateways: z
    .string()
    .transform((text) => text.split(",").map((url) => url.replace(/\/+$/, "")))
    .pipe(
      z
        .array(z.url({ protocol: /^https?$/ }))
        .min(1)
        .max(64),
    ),
  /** File with the token that the management API asks for. */
  gatewayTokenFile: z.string().min(1).optional(),
  serviceName: name.default("modelmesh-serving"),
  /** Whether clients reach the service over TLS. */
  serviceTls: yes.default(false),
  image: z.string().min(1),
  imagePullPolicy: z.enum(["Always", "IfNotPresent", "Never"]).default("IfNotPresent"),
  imagePullSecrets: json.pipe(z.array(z.object({ name: z.string() })).max(32)).default([]),
  storageSecret: name.default("storage-config"),
  etcdSecret: name.optional(),
  podsPerRuntime: whole(1, 65_535).default(2),
  maxPodsPerRuntime: whole(1, 65_535).default(10),
  /** Whether a runtime that no model could use has no pods, and after how long. */
  scaleToZero: yes.default(true),
  scaleToZeroGrace: durationMsOption.default(60_000),
  /** Whether a runtime without requests has no pods either, and after how long. */
  sleep: yes.default(false),
  sleepAfter: durationMsOption.default(1_800_000),
  /** Whether claims that models name are mounted without being in the storage settings. */
  allowAnyPvc: yes.default(false),
  /** Whether cluster-wide runtimes are served, and whether their status is written. */
  clusterRuntimes: z.enum(["ignore", "read", "report"]).default("report"),
  restricted: yes.default(true),
  runtimeServiceAccount: name.optional(),
  adapterResources: json.pipe(z.record(z.string(), z.unknown())).default({}),
  podLabels: json.pipe(z.record(z.string(), z.string())).default({}),
  podAnnotations: json.pipe(z.record(z.string(), z.string())).default({}),
  gatewayLabels: json.pipe(z.record(z.string(), z.string())).default({ "app.kubernetes.io/component": "gateway" }),
  drainSeconds: whole(0, 80).default(30),
  /** Of the Lease by which one of several controllers is chosen. */
  leaseName: name.default("warmpath-controller"),
  identity: z.string().min(1).max(253).optional(),
  /** Where `/healthz` and `/metrics` are answered; nowhere when absent. */
  healthPort: whole(0, 65_535).optional(),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
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
