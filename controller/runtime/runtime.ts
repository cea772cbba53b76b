// Owns what a ServingRuntime or ClusterServingRuntime says, read once. Pure: what is wrong with it is part of the value,
// since a runtime that cannot run must not keep others from running.

import { dirname, normalize } from "node:path/posix";
import { isRecord } from "#core/fields.ts";
import { longestLoadMs } from "#core/loadqueue.ts";
import { type KubeObject, list, record, text, texts } from "../engine/objects.ts";
import { annotations } from "../kinds.ts";
import { parseQuantity } from "../quantity.ts";

export interface RuntimeFormat {
  readonly name: string;
  readonly version: string | undefined;
  readonly autoSelect: boolean;
  /** Higher is preferred. */
  readonly priority: number;
}

export type Scaling = "own" | "hpa" | "external";

export interface Autoscaler {
  readonly metric: "cpu" | "memory";
  readonly targetUtilization: number;
  readonly minReplicas: number;
  readonly maxReplicas: number;
}

export interface Runtime {
  readonly name: string;
  /** Undefined: for the whole cluster. */
  readonly namespace: string | undefined;
  readonly uid: string;
  readonly generation: number;
  /** RFC 3339; sorts as text. */
  readonly createdAt: string;
  readonly disabled: boolean;
  readonly multiModel: boolean;
  readonly formats: readonly RuntimeFormat[];
  readonly protocols: readonly string[];
  /** Which driver its adapter has: `onnx`, `mlserver`, ... or `custom`, which speaks the ModelRuntime protocol. */
  readonly serverType: string;
  readonly managementPort: number | undefined;
  readonly memBufferBytes: number;
  /** The memory that models and the model server have together, where the author says so rather than the container. */
  readonly memoryBytes: number | undefined;
  /** Pull included; the adapter's own when undefined. */
  readonly loadTimeoutMs: number | undefined;
  readonly adapterEnv: readonly unknown[];
  /** What its author asks for and does not get here, each in a sentence. */
  readonly unheeded: readonly string[];
  readonly storageHelperDisabled: boolean;
  readonly grpcEndpoint: string | undefined;
  readonly grpcDataEndpoint: string | undefined;
  readonly httpDataEndpoint: string | undefined;
  readonly replicas: number | undefined;
  readonly autoscaler: Autoscaler | undefined;
  /** Who says how many pods there are: Warmpath, the HPA that it makes, or an autoscaler that somebody else has made. */
  readonly scaling: Scaling;
  readonly loadConcurrency: number | undefined;
  /** The adapter may see the processes of the model server, and these the adapter. */
  readonly sharesProcesses: boolean;
  /** For models, of each accelerator's memory; absent, what they take there counts as the machine's. */
  readonly acceleratorBytes: number | undefined;
  readonly containers: readonly Readonly<Record<string, unknown>>[];
  readonly volumes: readonly Readonly<Record<string, unknown>>[];
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly affinity: Readonly<Record<string, unknown>>;
  readonly tolerations: readonly unknown[];
  readonly labels: Readonly<Record<string, string>>;
  readonly podAnnotations: Readonly<Record<string, string>>;
  readonly imagePullSecrets: readonly unknown[];
  readonly status: Readonly<Record<string, unknown>>;
  /** Why it cannot run, each in a sentence; empty when it can. */
  readonly faults: readonly string[];
}

type HeededEnv = "LOADING_CONCURRENCY" | "LOADTIME_TIMEOUT" | "MEM_BUFFER_BYTES" | "CONTAINER_MEM_REQ_BYTES" | "RUNTIME_PORT";

const knownServers = ["onnx", "mlserver", "triton", "ovms", "torchserve"];
const reservedNames = new Set(["mm", "rest-proxy", "puller", "warmpath-adapter"]);
const reservedVolumes = new Set([
  "models-dir",
  "warmpath-run",
  "storage-config",
  "etcd-config",
  "peer-tls",
  "tc-config",
  "domain-socket",
]);
/** Where a shared volume would hide what is in the adapter's container. */
const ownFolders = new Set(["/", "/app", "/etc", "/usr", "/storage-config", "/etcd-config", "/peer-tls", "/pvc_mounts"]);
/** Of the address of a unix socket. */
const maxSocketLength = 107;
const maxNameLength = 63;
const maxFaultLength = 500;
const defaultMemBufferBytes = 128 * 2 ** 20;
const maxBytes = 2 ** 50;
/** Of ModelMesh's adapters, which read them from their environment. */
const heededEnv: ReadonlySet<string> = new Set([
  "LOADING_CONCURRENCY",
  "LOADTIME_TIMEOUT",
  "MEM_BUFFER_BYTES",
  "CONTAINER_MEM_REQ_BYTES",
  "RUNTIME_PORT",
] satisfies HeededEnv[]);
const unheededEnv: ReadonlySet<string> = new Set([
  "ADAPTER_PORT",
  "RUNTIME_DATA_ENDPOINT",
  "LIMIT_PER_MODEL_CONCURRENCY",
  "DEFAULT_MODELSIZE",
  "MODELSIZE_MULTIPLIER",
  "RUNTIME_VERSION",
  "USE_EMBEDDED_PULLER",
  "ROOT_MODEL_DIR",
  "STORAGE_CONFIG_DIR",
  "PVC_MOUNTS_DIR",
  "REQUEST_BATCH_SIZE",
  "MAX_BATCH_DELAY_SECS",
  "MODEL_CONFIG_FILE",
  "BATCH_WAIT_TIME_MIN",
  "BATCH_WAIT_TIME_MAX",
  "OVMS_RELOAD_TIMEOUT",
  "MAX_CONC_KERAS_CONV_PROCS",
]);

export function parseRuntime(object: KubeObject): Runtime {
  const { metadata, body } = object;
  const spec = record(body["spec"]);
  const adapter = record(spec["builtInAdapter"]);
  const serverType = text(adapter["serverType"]);
  const notes = metadata.annotations;
  const adapterEnv = list(adapter["env"]);
  const env = readEnv(adapterEnv);
  const accelerator = readAcceleratorMemory(notes, serverType);
  const autoscaler = readAutoscaler(notes, spec["replicas"] !== undefined);
  const runtime = {
    name: metadata.name,
    namespace: metadata.namespace,
    uid: metadata.uid,
    generation: metadata.generation,
    createdAt: metadata.creationTimestamp ?? "",
    disabled: spec["disabled"] === true,
    multiModel: spec["multiModel"] === true,
    formats: list(spec["supportedModelFormats"]).flatMap((each) => readFormat(record(each))),
    protocols: list(spec["protocolVersions"]).filter((each): each is string => typeof each === "string"),
    serverType: serverType ?? "custom",
    managementPort: env("RUNTIME_PORT", 1, 65_535) ?? whole(adapter["runtimeManagementPort"], 1, 65_535),
    memBufferBytes:
      env("MEM_BUFFER_BYTES", 0, maxBytes) ?? whole(adapter["memBufferBytes"], 0, maxBytes) ?? defaultMemBufferBytes,
    memoryBytes: env("CONTAINER_MEM_REQ_BYTES", 1, maxBytes),
    loadTimeoutMs: env("LOADTIME_TIMEOUT", 100, longestLoadMs) ?? whole(adapter["modelLoadingTimeoutMillis"], 100, longestLoadMs),
    adapterEnv,
    unheeded: findUnheeded(notes, adapterEnv),
    storageHelperDisabled: record(spec["storageHelper"])["disabled"] === true,
    grpcEndpoint: text(spec["grpcEndpoint"]),
    grpcDataEndpoint: text(spec["grpcDataEndpoint"]),
    httpDataEndpoint: text(spec["httpDataEndpoint"]),
    replicas: whole(spec["replicas"], 0, 65_535),
    autoscaler: autoscaler.kind === "ok" ? autoscaler.autoscaler : undefined,
    scaling: autoscaler.kind === "ok" ? autoscaler.scaling : "own",
    loadConcurrency:
      env("LOADING_CONCURRENCY", 1, 64) ?? whole(Number(notes[annotations.maxLoadingConcurrency] ?? Number.NaN), 1, 64),
    sharesProcesses: notes[annotations.shareProcessNamespace] === "true",
    acceleratorBytes: accelerator.kind === "ok" ? accelerator.bytes : undefined,
    containers: list(spec["containers"]).filter(isRecord),
    volumes: list(spec["volumes"]).filter(isRecord),
    nodeSelector: texts(spec["nodeSelector"]),
    affinity: record(spec["affinity"]),
    tolerations: list(spec["tolerations"]),
    labels: texts(spec["labels"]),
    podAnnotations: texts(spec["annotations"]),
    imagePullSecrets: list(spec["imagePullSecrets"]),
    status: record(body["status"]),
  };
  const faults = [autoscaler, accelerator].flatMap((read) => (read.kind === "ok" ? [] : [read.reason]));
  // What a user wrote may be long.
  return { ...runtime, faults: [...faults, ...findFaults(runtime, serverType)].map((fault) => fault.slice(0, maxFaultLength)) };
}

/** `port:8001`. */
export function portOf(endpoint: string | undefined): number | undefined {
  const found = /^port:(\d{1,5})$/.exec(endpoint ?? "");
  return found === null ? undefined : whole(Number(found[1]), 1, 65_535);
}

export interface Socket {
  readonly path: string;
  /** Which the containers of the pod share for it. */
  readonly folder: string;
}

/** `unix:/run/runtime/grpc.sock`, or with two slashes more. */
export function socketOf(endpoint: string | undefined): Socket | undefined {
  if (endpoint?.startsWith("unix:") !== true) return undefined;
  const path = normalize(endpoint.slice("unix:".length).replace(/^\/\/(?=\/)/, ""));
  return { path, folder: dirname(path) };
}

/** The container that is the model server. */
export function serverContainer(
  runtime: Pick<Runtime, "containers" | "serverType">,
): Readonly<Record<string, unknown>> | undefined {
  return runtime.containers.find(({ name }) => name === runtime.serverType) ?? runtime.containers[0];
}

function findFaults(runtime: Omit<Runtime, "faults">, serverType: string | undefined): readonly string[] {
  const faults: string[] = [];
  if (!runtime.multiModel) return faults;
  // It is the value of labels, and what pods announce themselves as.
  if (runtime.name.length > maxNameLength) faults.push(`its name must have at most ${maxNameLength} characters`);
  if (serverType !== undefined && !knownServers.includes(serverType))
    faults.push(`builtInAdapter.serverType must be one of ${knownServers.join(", ")}, not ${serverType}`);
  if (serverType !== undefined && !runtime.containers.some(({ name }) => name === serverType))
    faults.push(`no container is named ${serverType}, as builtInAdapter.serverType says`);
  if (runtime.containers.length === 0) faults.push("it has no containers");
  if (serverType === undefined && runtime.grpcEndpoint === undefined)
    faults.push("grpcEndpoint must say where the model server takes loads and unloads");
  const endpoints = { grpcEndpoint: runtime.grpcEndpoint, grpcDataEndpoint: runtime.grpcDataEndpoint } as const;
  for (const [field, value] of Object.entries(endpoints)) {
    if (value === undefined) continue;
    if (!/^(?:port:\d{1,5}|unix:\/.+)$/.test(value)) faults.push(`${field} must be port:NUMBER or unix:/PATH`);
  }
  const data = runtime.grpcDataEndpoint ?? runtime.grpcEndpoint;
  if (data?.startsWith("unix:") === true)
    faults.push("requests go straight to the model server, so it must take them on a port: set grpcDataEndpoint to port:NUMBER");
  const socket = socketOf(runtime.grpcEndpoint);
  if (socket !== undefined && serverType !== undefined)
    faults.push("grpcEndpoint is the adapter's own beside builtInAdapter, so it must be port:NUMBER");
  else if (socket !== undefined && (ownFolders.has(socket.folder) || socket.path.length > maxSocketLength))
    faults.push(
      `the socket of grpcEndpoint must lie in a folder of its own, such as unix:/run/runtime/grpc.sock, by a path of at most ${maxSocketLength} characters`,
    );
  for (const { name, volumeMounts } of runtime.containers) {
    if (typeof name !== "string" || reservedNames.has(name) || name.startsWith("mm-") || name.endsWith("-adapter"))
      faults.push(`the container name ${text(name) ?? "that is no text"} is reserved`);
    for (const mount of list(volumeMounts).map(record)) {
      const volume = text(mount["name"]) ?? "";
      if (volume !== "models-dir" && reservedVolumes.has(volume))
        faults.push(`the volume ${volume} must not be mounted by container ${text(name) ?? ""}`);
    }
  }
  for (const volume of runtime.volumes) {
    const name = text(volume["name"]) ?? "";
    if (reservedVolumes.has(name)) faults.push(`the volume name ${name} is reserved`);
  }
  return faults;
}

/** Some settings of ModelMesh's adapters are known here by other names; what is no plain value is not read. */
function readEnv(env: readonly unknown[]): (name: HeededEnv, least: number, most: number) => number | undefined {
  return (name, least, most) => {
    const value = text(env.map(record).findLast((each) => each["name"] === name)?.["value"]);
    return value === undefined || !/^\d+$/.test(value) ? undefined : whole(Number(value), least, most);
  };
}

function findUnheeded(notes: Readonly<Record<string, string>>, env: readonly unknown[]): readonly string[] {
  const named = env.map(record).map(({ name, value }) => ({ name: text(name) ?? "", isPlain: text(value) !== undefined }));
  const names = named.flatMap(({ name }) => (unheededEnv.has(name) ? [name] : []));
  const unread = named.flatMap(({ name, isPlain }) => (heededEnv.has(name) && !isPlain ? [name] : []));
  return [
    ...(notes[annotations.perModelConcurrencyLimit] === undefined
      ? []
      : [`the annotation ${annotations.perModelConcurrencyLimit} has no effect: requests go straight to the model server`]),
    ...Array.from(new Set(names), (name) => `${name} in builtInAdapter.env has no effect`),
    ...Array.from(new Set(unread), (name) => `${name} in builtInAdapter.env has an effect only as a plain value`),
  ];
}

function readFormat(format: Readonly<Record<string, unknown>>): readonly RuntimeFormat[] {
  const name = text(format["name"]);
  if (name === undefined) return [];
  return [
    {
      name,
      version: text(format["version"]),
      autoSelect: format["autoSelect"] === true,
      priority: whole(format["priority"], 1, 2 ** 31) ?? 0,
    },
  ];
}

/** No resource of Kubernetes says how much memory an accelerator has: it is the author's to say. */
function readAcceleratorMemory(
  notes: Readonly<Record<string, string>>,
  serverType: string | undefined,
): { readonly kind: "ok"; readonly bytes: number | undefined } | { readonly kind: "refused"; readonly reason: string } {
  const said = notes[annotations.acceleratorMemory];
  if (said === undefined) return { kind: "ok", bytes: undefined };
  if (serverType !== "triton")
    return {
      kind: "refused",
      reason: `the annotation ${annotations.acceleratorMemory} is for triton, which tells what models take`,
    };
  const bytes = Math.floor(parseQuantity(said) ?? 0);
  return bytes >= 1 && bytes <= 2 ** 50
    ? { kind: "ok", bytes }
    : { kind: "refused", reason: `the annotation ${annotations.acceleratorMemory} must be an amount such as 16Gi, not ${said}` };
}

type AutoscalerRead =
  | { readonly kind: "ok"; readonly scaling: Scaling; readonly autoscaler: Autoscaler | undefined }
  | { readonly kind: "refused"; readonly reason: string };

function readAutoscaler(notes: Readonly<Record<string, string>>, hasReplicas: boolean): AutoscalerRead {
  const refuse = (reason: string): AutoscalerRead => ({ kind: "refused", reason });
  const kind = notes[annotations.autoscalerClass];
  if (kind === undefined || kind === "none") return { kind: "ok", scaling: "own", autoscaler: undefined };
  if (kind !== "hpa" && kind !== "external")
    return refuse(`the annotation ${annotations.autoscalerClass} must be hpa or external, not ${kind}`);
  if (hasReplicas) return refuse(`replicas must be left out when ${kind === "hpa" ? "an HPA" : "another autoscaler"} sets them`);
  if (kind === "external") return { kind: "ok", scaling: "external", autoscaler: undefined };
  const metric = notes[annotations.metrics] ?? "cpu";
  if (metric !== "cpu" && metric !== "memory") return refuse(`the annotation ${annotations.metrics} must be cpu or memory`);
  const target = whole(Number(notes[annotations.targetUtilization] ?? 80), 1, 100);
  if (target === undefined) return refuse(`the annotation ${annotations.targetUtilization} must be a whole number from 1 to 100`);
  const least = whole(Number(notes[annotations.minScale] ?? 1), 1, 65_535);
  if (least === undefined) return refuse(`the annotation ${annotations.minScale} must be a whole number of 1 or more`);
  const most = whole(Number(notes[annotations.maxScale] ?? 1), 1, 65_535);
  if (most === undefined) return refuse(`the annotation ${annotations.maxScale} must be a whole number of 1 or more`);
  if (notes[annotations.maxScale] !== undefined && most < least)
    return refuse(`the annotation ${annotations.maxScale} must not be less than ${annotations.minScale}`);
  return {
    kind: "ok",
    scaling: "hpa",
    autoscaler: { metric, targetUtilization: target, minReplicas: least, maxReplicas: Math.max(least, most) },
  };
}

function whole(value: unknown, least: number, most: number): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most ? value : undefined;
}
