// Owns what a runtime is made of in Kubernetes: a Deployment whose pods hold the model server with an adapter beside it, a
// headless Service, a NetworkPolicy, a PodDisruptionBudget, and an autoscaler if it asks for one. Pure; each is applied by
// server-side apply.
// Invariants: what does not concern the pods does not change their template, so nothing rolls without a reason; requests
// come from gateways alone; a container keeps what its author said, and gets what he left out.
import { createHash } from "node:crypto";
import type {
  V1Container,
  V1Deployment,
  V1ObjectMeta,
  V1PodDisruptionBudget,
  V1Service,
  V2HorizontalPodAutoscaler,
} from "@kubernetes/client-node";
import { isRecord } from "#core/fields.ts";
import { list, record, text } from "../engine/objects.ts";
import { labels as label, manager } from "../kinds.ts";
import { parseQuantity } from "../quantity.ts";
import { type Binding, bindServer } from "./binding.ts";
import { claimVolume, type Mount, plainPath, runMount, sharedMounts, socketMountOf, socketVolume } from "./mounts.ts";
import { isEnvVar, isToleration, isVolume, isVolumeMount } from "./podfields.ts";
import { choosePorts, type Ports } from "./ports.ts";
import { type Runtime, serverContainer } from "./runtime.ts";

export interface RuntimeSettings {
  readonly namespace: string;
  /** Under which clients find the gateways; part of the names of what is made. */
  readonly serviceName: string;
  /** Of our own processes. */
  readonly image: string;
  readonly imagePullPolicy: string;
  readonly imagePullSecrets: readonly unknown[];
  /** Flags that lead an adapter to the registry, such as `--registry etcd://...`. */
  readonly registryFlags: readonly string[];
  /** Further flags of adapters. */
  readonly adapterArgs?: readonly string[];
  /** Holds etcd's certificates or password, mounted where the flags say; none when absent. */
  readonly etcdSecret: string | undefined;
  /** Holds who adapters are to gateways; they speak plain text when absent. */
  readonly peerSecret: string | undefined;
  readonly storageSecret: string;
  readonly podsPerRuntime: number;
  readonly serviceAccount: string | undefined;
  readonly adapterResources: Readonly<Record<string, unknown>>;
  readonly podLabels: Readonly<Record<string, string>>;
  readonly podAnnotations: Readonly<Record<string, string>>;
  /** Whether pods must satisfy the Pod Security Standard "restricted". */
  readonly restricted: boolean;
  readonly logLevel: string;
  /** Labels of the pods that requests come from. */
  readonly gatewayLabels: Readonly<Record<string, string>>;
  /** How long a pod that was told to stop serves on at most, while others take its models. */
  readonly drainSeconds: number;
}

export interface RuntimeObjects {
  readonly deployment: V1Deployment;
  readonly service: V1Service;
  /** As it is sent: the library names one of its fields otherwise. */
  readonly networkPolicy: { readonly metadata: V1ObjectMeta; readonly spec: unknown };
  readonly podDisruptionBudget: V1PodDisruptionBudget;
  readonly autoscaler: V2HorizontalPodAutoscaler | undefined;
}

/** Where pods' metrics are found by their Service. */
const metricsPort = 2112;
/** Of a user of its own, for images that would run as root. */
const userId = 1000;
const leastGraceSeconds = 90;
/** Beside the drain: for requests under way, and for processes to end. */
const endSeconds = 45;
const defaultCapacityBytes = 256 * 2 ** 20;
const maxNameLength = 63;

/** `pods`: undefined leaves their number to an autoscaler. `claims`: mounted read-only in every pod. */
export function buildRuntime(
  runtime: Runtime,
  settings: RuntimeSettings,
  pods: number | undefined,
  claims: readonly string[],
): RuntimeObjects {
  const name = deploymentName(runtime.name, settings.serviceName);
  const { namespace } = settings;
  const binding = bindServer(runtime);
  const selector = { [label.service]: settings.serviceName, [label.name]: name };
  const labels = { ...selector, [label.runtime]: runtime.name, [label.managedBy]: manager, [label.component]: "runtime" };
  const metadata = (at: string): { name: string; namespace: string; labels: Record<string, string> } => ({
    name: at,
    namespace,
    labels,
  });
  const { [label.service]: _, ...others } = labels;
  const serviceName = serviceNameOf(name);
  const serverPorts = new Set([binding.restPort ?? binding.grpcPort, binding.grpcPort]);
  const ports = choosePorts(runtime, [...serverPorts]);
  return {
    deployment: {
      metadata: metadata(name),
      spec: {
        ...(pods === undefined ? {} : { replicas: pods }),
        selector: { matchLabels: selector },
        // A new pod is there before an old one goes.
        strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: "75%", maxUnavailable: "15%" } },
        template: {
          metadata: {
            labels: { ...settings.podLabels, ...runtime.labels, ...labels },
            annotations: { ...scrapeAnnotations(ports), ...settings.podAnnotations, ...runtime.podAnnotations },
          },
          spec: buildPod({ runtime, settings, binding, claims, ports }),
        },
      },
    },
    service: {
      // Not by the label of ModelMesh: what scrapes by it does so over TLS, which gateways speak and adapters do not.
      metadata: { ...metadata(serviceName), labels: others },
      spec: {
        clusterIP: "None",
        selector,
        publishNotReadyAddresses: true,
        ports: [
          // By number: the author's containers may have ports of these names.
          { name: "link", port: ports.link, targetPort: ports.link, protocol: "TCP" },
          { name: "prometheus", port: metricsPort, targetPort: ports.metrics, protocol: "TCP" },
        ],
      },
    },
    networkPolicy: {
      metadata: metadata(serviceName),
      spec: {
        podSelector: { matchLabels: selector },
        policyTypes: ["Ingress"],
        ingress: [
          {
            from: [{ podSelector: { matchLabels: settings.gatewayLabels } }],
            ports: [ports.link, ...serverPorts].map((port) => ({
              port,
              protocol: "TCP",
            })),
          },
          { ports: [{ port: ports.metrics, protocol: "TCP" }] },
        ],
      },
    },
    podDisruptionBudget: {
      metadata: metadata(serviceName),
      // The only pod may go: a node is not kept for it, and requests wait for the next one. Nor for one that is not ready.
      spec: { maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow", selector: { matchLabels: selector } },
    },
    autoscaler: buildAutoscaler(runtime, metadata(name)),
  };
}

/** `modelmesh-serving-triton-2.x`; also the value of a label, so at most 63 characters. */
export function deploymentName(runtime: string, serviceName: string): string {
  return clip(`${serviceName}-${runtime}`);
}

function serviceNameOf(deployment: string): string {
  return clip(deployment.replaceAll(".", "-").toLowerCase());
}

function clip(name: string): string {
  if (name.length <= maxNameLength) return name;
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 8);
  return `${name.slice(0, maxNameLength - 9).replace(/[^A-Za-z0-9]+$/, "")}-${hash}`;
}

type PodSpec = NonNullable<NonNullable<V1Deployment["spec"]>["template"]["spec"]>;

interface PodParts {
  readonly runtime: Runtime;
  readonly settings: RuntimeSettings;
  readonly binding: Binding;
  readonly claims: readonly string[];
  readonly ports: Ports;
}

function buildPod(parts: PodParts): PodSpec {
  const { runtime, settings, binding, claims, ports } = parts;
  const server = serverContainer(runtime);
  const socket = socketMountOf(runtime);
  const shared = sharedMounts(claims, socket);
  const all = shared.includes(runMount) ? shared : [...shared, runMount];
  const containers = binding.containers.map((container) => {
    const mounts = container["name"] === server?.["name"] ? all : shared;
    return completeContainer(container, { restricted: settings.restricted, mounts, ports });
  });
  const secrets = [...settings.imagePullSecrets, ...runtime.imagePullSecrets].filter(isRecord);
  return {
    ...(settings.serviceAccount === undefined ? {} : { serviceAccountName: settings.serviceAccount }),
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...(runtime.sharesProcesses ? { shareProcessNamespace: true } : {}),
    terminationGracePeriodSeconds: Math.max(leastGraceSeconds, settings.drainSeconds + endSeconds),
    ...(settings.restricted
      ? {
          securityContext: {
            runAsNonRoot: true,
            runAsUser: userId,
            runAsGroup: userId,
            fsGroup: userId,
            fsGroupChangePolicy: "OnRootMismatch",
            seccompProfile: { type: "RuntimeDefault" },
          },
        }
      : {}),
    ...(Object.keys(runtime.nodeSelector).length === 0 ? {} : { nodeSelector: { ...runtime.nodeSelector } }),
    ...(Object.keys(runtime.affinity).length === 0 ? {} : { affinity: runtime.affinity }),
    ...(runtime.tolerations.length === 0 ? {} : { tolerations: runtime.tolerations.filter(isToleration) }),
    ...(secrets.length === 0 ? {} : { imagePullSecrets: secrets }),
    topologySpreadConstraints: ["topology.kubernetes.io/zone", "kubernetes.io/hostname"].map((topologyKey) => ({
      maxSkew: 1,
      topologyKey,
      whenUnsatisfiable: "ScheduleAnyway",
      labelSelector: { matchLabels: { [label.name]: deploymentName(runtime.name, settings.serviceName) } },
    })),
    containers: [...containers, buildAdapter(parts, all, server)],
    volumes: [
      { name: "models-dir", emptyDir: {} },
      { name: "warmpath-run", emptyDir: { medium: "Memory", sizeLimit: "16Mi" } },
      ...(socket?.name === socketVolume ? [{ name: socketVolume, emptyDir: {} }] : []),
      // Its absence is no reason for pods to hang: models that need it say so.
      { name: "storage-config", secret: { secretName: settings.storageSecret, optional: true } },
      ...(settings.etcdSecret === undefined ? [] : [{ name: "etcd-config", secret: { secretName: settings.etcdSecret } }]),
      ...(settings.peerSecret === undefined ? [] : [{ name: "peer-tls", secret: { secretName: settings.peerSecret } }]),
      ...claims.map((claim) => ({ name: claimVolume(claim), persistentVolumeClaim: { claimName: claim, readOnly: true } })),
      ...list(runtime.volumes).filter(isVolume),
    ],
  };
}

/** For a Prometheus that finds pods by these, as it found those of ModelMesh. */
function scrapeAnnotations({ metrics }: Ports): Readonly<Record<string, string>> {
  return {
    "prometheus.io/scrape": "true",
    "prometheus.io/scheme": "http",
    "prometheus.io/port": `${metrics}`,
    "prometheus.io/path": "/metrics",
  };
}

/** What the author said stays; what he left out is filled in. */
function completeContainer(
  container: Readonly<Record<string, unknown>>,
  { restricted, mounts, ports }: { readonly restricted: boolean; readonly mounts: readonly Mount[]; readonly ports: Ports },
): V1Container {
  const own = list(container["volumeMounts"]).filter(isVolumeMount);
  const missing = mounts.filter(({ mountPath }) => !own.some((mount) => plainPath(mount.mountPath) === mountPath));
  return {
    ...container,
    name: text(container["name"]) ?? "",
    ...(own.length + missing.length === 0 ? {} : { volumeMounts: [...own, ...missing] }),
    // It serves on until the adapter beside it says that gateways have taken the pod's copies out of their routes, and ends then.
    lifecycle: isRecord(container["lifecycle"])
      ? container["lifecycle"]
      : { preStop: { httpGet: { path: "/drained", port: ports.metrics, scheme: "HTTP" } } },
    securityContext: { ...(restricted ? closed : dropped), ...record(container["securityContext"]) },
  };
}

const dropped = { capabilities: { drop: ["ALL"] } };
const closed = { ...dropped, allowPrivilegeEscalation: false };

function buildAdapter(
  { runtime, settings, binding, ports }: PodParts,
  mounts: readonly Mount[],
  server: Readonly<Record<string, unknown>> | undefined,
): V1Container {
  const isCustom = runtime.serverType === "custom";
  const flags = {
    "pod-id": "$(POD_NAME)",
    runtime: runtime.name,
    driver: isCustom ? "modelmesh" : runtime.serverType,
    ...(runtime.formats.length === 0 ? {} : { formats: [...new Set(runtime.formats.flatMap(formatFlags))].join(",") }),
    "link-host": "$(POD_IP)",
    "link-port": ports.link,
    "metrics-host": "$(POD_IP)",
    "metrics-port": ports.metrics,
    ...binding.adapterFlags,
    ...(binding.restPort === undefined ? {} : { "rest-address": `$(POD_IP):${binding.restPort}` }),
    "grpc-address": `$(POD_IP):${binding.grpcPort}`,
    "capacity-bytes": capacityOf(runtime, server),
    ...memoryLimitOf(runtime, server),
    ...(runtime.acceleratorBytes === undefined ? {} : { "accelerator-bytes": runtime.acceleratorBytes }),
    "storage-root": "/models",
    "storage-config": "/storage-config",
    "cache-dir": "/models/.cache",
    "pvc-root": "/pvc_mounts",
    drain: `${settings.drainSeconds}s`,
    ...(settings.peerSecret === undefined
      ? {}
      : { "peer-ca": "/peer-tls/ca.crt", "peer-cert": "/peer-tls/tls.crt", "peer-key": "/peer-tls/tls.key" }),
    ...(runtime.loadConcurrency === undefined ? {} : { "load-concurrency": runtime.loadConcurrency }),
    ...(runtime.loadTimeoutMs === undefined ? {} : { "load-timeout": `${runtime.loadTimeoutMs}ms` }),
    "log-level": settings.logLevel,
  };
  // A container of its own may have a user of its own.
  const switches = ["--cache-readable", ...(isCustom ? ["--server-limits"] : [])];
  if (isCustom && runtime.storageHelperDisabled) switches.push("--server-fetches");
  return {
    name: "warmpath-adapter",
    image: settings.image,
    imagePullPolicy: settings.imagePullPolicy,
    args: [
      "adapter",
      ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`]),
      ...switches,
      ...settings.registryFlags,
      ...(settings.adapterArgs ?? []),
    ],
    env: [
      { name: "POD_NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
      { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
      { name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
      ...runtime.adapterEnv.filter(isEnvVar),
    ],
    ports: [
      { name: "link", containerPort: ports.link, protocol: "TCP" },
      { name: "prometheus", containerPort: ports.metrics, protocol: "TCP" },
    ],
    readinessProbe: { tcpSocket: { port: "link" }, periodSeconds: 2, failureThreshold: 3 },
    livenessProbe: {
      tcpSocket: { port: "link" },
      periodSeconds: 10,
      failureThreshold: 6,
      initialDelaySeconds: 30,
    },
    resources: settings.adapterResources,
    securityContext: { ...(settings.restricted ? closed : dropped), readOnlyRootFilesystem: true },
    volumeMounts: [
      ...mounts,
      { name: "storage-config", mountPath: "/storage-config", readOnly: true },
      ...(settings.etcdSecret === undefined ? [] : [{ name: "etcd-config", mountPath: "/etcd-config", readOnly: true }]),
      ...(settings.peerSecret === undefined ? [] : [{ name: "peer-tls", mountPath: "/peer-tls", readOnly: true }]),
    ],
  };
}

/** A format without versions serves all; one with versions serves those, and models that name none. */
function formatFlags({ name, version }: Runtime["formats"][number]): readonly string[] {
  return version === undefined ? [name] : [`${name}:${version}`];
}

/** For models: what the model server's container asks for, less its buffer. */
function capacityOf(runtime: Runtime, server: Readonly<Record<string, unknown>> | undefined): number {
  const resources = record(server?.["resources"]);
  const asked =
    runtime.memoryBytes ??
    parseQuantity(record(resources["requests"])["memory"]) ??
    parseQuantity(record(resources["limits"])["memory"]);
  if (asked === undefined) return defaultCapacityBytes;
  const left = Math.floor(asked) - runtime.memBufferBytes;
  // A request smaller than the buffer is a small server: half of it is left for models.
  return left > 0 ? left : Math.max(1, Math.floor(asked / 2));
}

/** Some of what the container may have is left: a load is seen when it is done. */
const seenPart = 0.9;

/** Where the adapter sees the model server's processes, copies leave before the kernel ends one of them. */
function memoryLimitOf(
  { sharesProcesses }: Runtime,
  server: Readonly<Record<string, unknown>> | undefined,
): Readonly<Record<string, number>> {
  const limit = parseQuantity(record(record(server?.["resources"])["limits"])["memory"]);
  return !sharesProcesses || limit === undefined ? {} : { "memory-limit": Math.floor(limit * seenPart) };
}

function buildAutoscaler(
  { autoscaler }: Runtime,
  metadata: { readonly name: string; readonly namespace: string; readonly labels: Record<string, string> },
): V2HorizontalPodAutoscaler | undefined {
  if (autoscaler === undefined) return undefined;
  const { metric, targetUtilization, minReplicas, maxReplicas } = autoscaler;
  return {
    metadata: { ...metadata },
    spec: {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: metadata.name },
      minReplicas,
      maxReplicas,
      metrics: [
        { type: "Resource", resource: { name: metric, target: { type: "Utilization", averageUtilization: targetUtilization } } },
      ],
    },
  };
}
