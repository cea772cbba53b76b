// Owns the chart's own installation on a real node: helm, our image, Envoy, etcd, models on a volume, and the way to call them.
import { chmodSync, cpSync, globSync, statSync } from "node:fs";
import { join } from "node:path";
import { request } from "undici";
import { type Oracle, openOracle } from "#cli/library/oracle.ts";
import { createKubeClient } from "#controller/engine/client.ts";
import { pods } from "#controller/kinds.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { createRestClient, type RestAnswer, type RestClient } from "#test/harness/http.ts";
import { type Asker, createAsker } from "#test/harness/models.ts";
import { buildSmallLibrary } from "#test/harness/setup.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { type Cluster, openCluster } from "./cluster.ts";
import { chartFolder } from "./crds.ts";
import { buildEnvoyImage, buildEtcdImage, buildWarmpathImage, envoyImage, etcdImage, warmpathImage } from "./images.ts";
import { type CommandResult, type KubeValue, runCommand } from "./kubectl.ts";
import { findHelm } from "./programs.ts";

export interface Installation extends AsyncDisposable {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly oracle: Oracle;
  readonly asker: Asker;
  readonly restUrl: string;
  readonly grpcTarget: string;
  helm(...args: readonly string[]): Promise<CommandResult>;
  /** `pvc://models/...` of a model of the library. */
  artefact(model: string): string;
  apply(object: string): Promise<void>;
  /** Another claim with the same models. */
  addClaim(name: string): Promise<void>;
  remove(kind: string, name: string): Promise<void>;
  get(kind: string, name: string): Promise<KubeValue>;
  /** Waits until the status of an InferenceService satisfies. */
  until(kind: string, name: string, what: string, holds: (status: KubeValue) => boolean, ms?: number): Promise<KubeValue>;
  ask(path: string, body?: unknown): Promise<RestAnswer>;
  /** Those with these labels, those that are ending too. */
  pods(selector: string): Promise<readonly KubeValue[]>;
  /** A secret's values. */
  secret(name: string): Promise<Readonly<Record<string, string>>>;
  /** One request for an iris model over REST, that may wait for so long. */
  inferIris(model: string, ms: number, signal?: AbortSignal): Promise<{ readonly status: number; readonly text: string }>;
  /** Deletes a pod; once it is gone, by what codes its containers have ended. Those that never ran are left out. */
  endPod(name: string): Promise<Readonly<Record<string, number>>>;
  /** What the release's processes have printed, for a failure that is to be understood. */
  logs(): Promise<string>;
}

export const namespace = "models";
export const claimName = "models";

export const testValues: readonly string[] = [
  ...["image.repository", "envoy.image.repository", "etcd.image.repository"].map((path, at) => {
    const [repository = ""] = [warmpathImage, envoyImage, etcdImage][at]?.split(":") ?? [];
    return `${path}=${repository}`;
  }),
  ...["image", "envoy.image", "etcd.image"].flatMap((path) => [`${path}.tag=test`, `${path}.pullPolicy=Never`]),
  ...["gateway", "envoy", "controller", "adapter", "etcd"].map((path) => `${path}.resources.requests.cpu=10m`),
  "gateway.replicas=1",
  "gateway.drainSeconds=3",
  "drainSeconds=8",
  "etcd.persistence.enabled=false",
  "clusterRuntimes.create=false",
  "podsPerRuntime=1",
  "allowAnyPVC=true",
  "scaleToZero.gracePeriodSeconds=5",
];

export interface InstallationMore {
  /** Archives of further images. */
  readonly images?: readonly string[];
  /** Folders that lie beside the library on the claim, by name. */
  readonly artefacts?: Readonly<Record<string, string>>;
  /** What is to be there before, in the namespace; further values. */
  readonly prepare?: (cluster: Cluster) => Promise<readonly string[]>;
}

/** `values`: beside those of every test, as `--set` takes them. */
export async function openInstallation(values: readonly string[] = [], more: InstallationMore = {}): Promise<Installation> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await openRunFolder()).path;
  const library = await buildSmallLibrary(folder);
  for (const [name, from] of Object.entries(more.artefacts ?? {})) cpSync(from, join(library, name), { recursive: true });
  makeReadable(folder);
  const images = await Promise.all([buildWarmpathImage(), buildEnvoyImage(), buildEtcdImage()]);
  const cluster = stack.use(await openCluster([...images, ...(more.images ?? [])], { enforcesPolicies: true }));
  const { kubectl } = cluster;
  const helmHome = join(folder, "helm");
  const helm = async (...args: readonly string[]): Promise<CommandResult> =>
    await runCommand(await findHelm(), [...args, "--kubeconfig", cluster.kubeconfig, "--namespace", namespace], undefined, {
      HELM_CACHE_HOME: helmHome,
      HELM_CONFIG_HOME: helmHome,
      HELM_DATA_HOME: helmHome,
    });
  await kubectl("create", "namespace", namespace);
  for (const mode of ["enforce", "warn"])
    await kubectl("label", "namespace", namespace, `pod-security.kubernetes.io/${mode}=restricted`);
  await kubectl.apply(volume(claimName, library), namespace);
  const prepared = (await more.prepare?.(cluster)) ?? [];
  const installed = await helm(
    "install",
    "warmpath",
    chartFolder,
    "--wait",
    "--timeout",
    "10m",
    ...[...testValues, ...values, ...prepared].flatMap((value) => ["--set", value]),
  );
  if (installed.code !== 0) {
    const described = await kubectl.run(["describe", "pods", "--namespace", namespace]);
    throw new Error(
      `the chart was not installed: ${installed.stderr}\n${described.stdout.slice(-6_000)}\n${await logsOf(cluster)}`,
    );
  }
  const [rest, grpc] = await Promise.all(
    [8008, 8033].map((port) => cluster.forwardService("modelmesh-serving", port, namespace)),
  );
  const restUrl = `http://${rest?.host}:${rest?.port}`;
  const grpcTarget = `${grpc?.host}:${grpc?.port}`;
  const oracle = await openOracle(library);
  const asker = stack.use(createAsker({ restUrl, grpcTarget, oracle, connections: 32 }));
  const reader = stack.use(createKubeClient(cluster.kubeconfig));
  const client: RestClient = stack.use(createRestClient(restUrl));
  const parts = stack.move();
  const get = (kind: string, name: string): Promise<KubeValue> => kubectl.get(kind, name, namespace);
  return {
    cluster,
    namespace,
    oracle,
    asker,
    restUrl,
    grpcTarget,
    helm,
    artefact: (model) => `pvc://${claimName}/models/${model.split("-")[0]}/${model}.onnx`,
    async apply(object) {
      await kubectl.apply(object, namespace);
    },
    async addClaim(name) {
      await kubectl.apply(volume(name, library), namespace);
    },
    async remove(kind, name) {
      await kubectl("delete", kind, name, "--namespace", namespace, "--ignore-not-found");
    },
    get,
    until: (kind, name, what, holds, ms = 240_000) =>
      waitUntil(`${kind} ${name} ${what}`, async () => (await get(kind, name))?.status ?? {}, holds, ms).catch(
        async (error: unknown) => {
          throw new Error(`${String(error)}\n${await logsOf(cluster)}`, { cause: error });
        },
      ),
    // A connection of its own, here and below: one that is kept may be closed the moment it is used again.
    ask: (path, body) =>
      client.ask(
        path,
        body === undefined
          ? { headers: [["connection", "close"]] }
          : {
              body,
              headers: [
                ["connection", "close"],
                ["content-type", "application/json"],
              ],
            },
      ),
    async pods(selector) {
      const { items } = await reader.list(pods, namespace, { limit: 500, labelSelector: selector });
      return items.map(({ body }) => body);
    },
    async secret(name) {
      const data = (await kubectl.get("secret", name, namespace))?.data ?? {};
      return Object.fromEntries(Object.keys(data).map((key) => [key, Buffer.from(data[key], "base64").toString("utf8")]));
    },
    async inferIris(model, ms, signal) {
      const body = JSON.stringify({ inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] });
      const { statusCode, body: answer } = await request(`${restUrl}/v2/models/${model}/infer`, {
        method: "POST",
        body,
        headers: { "content-type": "application/json" },
        headersTimeout: ms,
        bodyTimeout: ms,
        reset: true,
        ...(signal === undefined ? {} : { signal }),
      });
      return { status: statusCode, text: await answer.text() };
    },
    async endPod(name) {
      const stop = new AbortController();
      const { resourceVersion } = await reader.list(pods, namespace, { limit: 500 });
      const watch = reader.watch(pods, namespace, { resourceVersion, timeoutSeconds: 3_600, signal: stop.signal });
      await kubectl("delete", "pod", name, "--namespace", namespace, "--wait=false");
      for await (const event of watch) {
        if (event.kind !== "deleted" || event.object.metadata.name !== name) continue;
        // The node tells how all of them have ended before it lets the pod go.
        const { status = {} }: KubeValue = event.object.body;
        const containers: readonly KubeValue[] = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
        return Object.fromEntries(
          containers.flatMap(({ name: of, state }) => (state?.terminated === undefined ? [] : [[of, state.terminated.exitCode]])),
        );
      }
      throw new Error(`${name}: nobody told that it is gone`);
    },
    logs: () => logsOf(cluster),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

/** A folder of this machine as a claim in the namespace. */
function volume(name: string, folder: string): string {
  const size = { storage: "1Gi" };
  const access = { accessModes: ["ReadOnlyMany"], storageClassName: "" };
  return JSON.stringify({
    apiVersion: "v1",
    kind: "List",
    items: [
      {
        apiVersion: "v1",
        kind: "PersistentVolume",
        metadata: { name },
        spec: { ...access, capacity: size, hostPath: { path: folder }, claimRef: { name, namespace } },
      },
      {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: { name, namespace },
        spec: { ...access, volumeName: name, resources: { requests: size } },
      },
    ],
  });
}

/** Pods read it as a user of their own. */
function makeReadable(folder: string): void {
  for (const path of [folder, ...globSync("**/*", { cwd: folder }).map((name) => join(folder, name))])
    chmodSync(path, statSync(path).isDirectory() ? 0o755 : 0o644);
}

async function logsOf({ kubectl }: Cluster): Promise<string> {
  const { stdout } = await kubectl.run(["get", "pods", "--namespace", namespace, "--output", "name"]);
  const names = stdout.split("\n").filter((name) => name !== "");
  const texts = await Promise.all(
    names.map(async (pod) => {
      const { stdout: said, stderr } = await kubectl.run([
        "logs",
        pod,
        "--namespace",
        namespace,
        "--all-containers",
        "--tail",
        "25",
        "--prefix",
      ]);
      return `--- ${pod}\n${said}${stderr}`;
    }),
  );
  return texts.join("\n").slice(-20_000);
}
