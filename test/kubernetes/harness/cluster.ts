// Owns a whole Kubernetes on this machine: one node with real pods, in namespaces of its own, so that several can run at
// once and nothing of them is left when they end. Tests talk to it from outside: its API server and every address in it
// are reached through a tunnel.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { buildKubeconfig, type Identity, makeCredentials } from "./certificates.ts";
import { apiServerArgs, etcdArgs } from "./controlplane.ts";
import { removeDeadGroups, removeGroups } from "./groups.ts";
import { pauseImage } from "./images.ts";
import { type CommandResult, createKubectl, type Kubectl, runCommand } from "./kubectl.ts";
import { writeConfigs } from "./nodeconfig.ts";
import { findContainerPrograms, findPolicies, findPrograms } from "./programs.ts";
import { type Forward, openForward } from "./tunnel.ts";

export interface Cluster extends AsyncDisposable {
  readonly folder: string;
  /** The node's, which pods reach. */
  readonly address: string;
  /** Leads to the API server from outside. */
  readonly kubeconfig: string;
  readonly kubectl: Kubectl;
  /** A loopback port that leads to an address in the cluster's network. */
  forward(host: string, port: number): Promise<Forward>;
  /** The same for a Service. */
  forwardService(name: string, port: number, namespace?: string): Promise<Forward>;
  importImage(archive: string): Promise<void>;
  /** Runs a program in the node's namespaces. */
  run(command: string, args: readonly string[]): Promise<CommandResult>;
  /** A kubeconfig for another token. */
  kubeconfigFor(name: string, token: string): Promise<string>;
  /** Kills the API server; it is started again on the same data. */
  restartApi(): Promise<void>;
}

const address = "172.30.0.1";
const apiPort = 6443;
const here = import.meta.dirname;

export interface ClusterMore {
  /** Whether NetworkPolicies are enforced, as a network plugin of a real cluster would. */
  readonly enforcesPolicies?: boolean;
}

export async function openCluster(
  images: readonly string[] = [],
  { enforcesPolicies = false }: ClusterMore = {},
): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const [bin, containers, policies] = await Promise.all([
    findPrograms(),
    findContainerPrograms(),
    enforcesPolicies ? findPolicies() : undefined,
  ]);
  const run = stack.use(await openRunFolder());
  const folder = run.path;
  const inside = (name: string): string => join(folder, name);
  for (const name of ["log", "programs", "pki", "containerd", "kubelet", "cni", "manifests"]) await mkdir(inside(name));
  const credentials = await makeCredentials(inside("pki"), [address]);
  const kubeconfigOf = async (identity: Identity): Promise<string> => {
    const file = inside(`${identity}.kubeconfig`);
    await writeFile(file, buildKubeconfig(`https://${address}:${apiPort}`, credentials.ca, credentials.tokens[identity]), {
      mode: 0o600,
    });
    return file;
  };
  const [controllers, scheduler, proxy, node, admin] = await Promise.all(
    (["controllers", "scheduler", "proxy", "node", "admin"] as const).map(kubeconfigOf),
  );
  await removeDeadGroups();
  const group = `/warmpath-${process.pid}-${folder.replaceAll(/[^a-z0-9]/gi, "").slice(-8)}`;
  await writeConfigs({ folder, address, cniFolder: containers.cniFolder, group, proxy: proxy ?? "", admin: admin ?? "" });
  const etcdUrl = "http://127.0.0.1:2379";
  const program = (name: string, args: readonly string[]): Promise<void> =>
    writeFile(inside(`programs/${name}`), `${["setsid", "bash", "-c", restarting, name, ...args].join("\n")}\n`);
  const of = (name: string): string => join(bin, name);
  await Promise.all([
    program("etcd", [of("etcd"), ...etcdArgs(inside("etcd"), etcdUrl, "http://127.0.0.1:2380")]),
    program("kube-apiserver", [
      of("kube-apiserver"),
      ...apiServerArgs({ credentials, etcdUrl, address, port: apiPort, reconciler: "lease" }),
    ]),
    program("kube-controller-manager", [
      of("kube-controller-manager"),
      `--kubeconfig=${controllers}`,
      `--service-account-private-key-file=${inside("pki/sa.key")}`,
      `--root-ca-file=${inside("pki/ca.crt")}`,
      `--cluster-signing-cert-file=${inside("pki/ca.crt")}`,
      `--cluster-signing-key-file=${inside("pki/ca.key")}`,
      "--use-service-account-credentials=true",
      "--leader-elect=false",
      "--bind-address=127.0.0.1",
      "--secure-port=0",
      "--allocate-node-cidrs=true",
      "--cluster-cidr=10.244.0.0/16",
      "--horizontal-pod-autoscaler-sync-period=2s",
      "--service-cluster-ip-range=10.96.0.0/16",
    ]),
    program("kube-scheduler", [
      of("kube-scheduler"),
      `--kubeconfig=${scheduler}`,
      "--leader-elect=false",
      "--bind-address=127.0.0.1",
      "--secure-port=0",
    ]),
    program("containerd", ["containerd", "--config", inside("containerd.toml")]),
    program("kubelet", [
      of("kubelet"),
      `--config=${inside("kubelet.yaml")}`,
      `--kubeconfig=${node}`,
      `--root-dir=${inside("kubelet")}`,
      `--cert-dir=${inside("kubelet-pki")}`,
      "--hostname-override=node1",
      `--node-ip=${address}`,
    ]),
    program("kube-proxy", [of("kube-proxy"), `--config=${inside("proxy.yaml")}`]),
    program("coredns", [of("coredns"), "-conf", inside("Corefile")]),
    policies &&
      program("policies", [
        policies,
        `--kubeconfig=${admin}`,
        "--hostname-override=node1",
        "--service-cluster-ip-range=10.96.0.0/16",
      ]),
  ]);

  const env = { ...process.env, ...containers.env, PATH: `${containers.path}:${process.env["PATH"] ?? ""}` };
  const first = spawn(
    "unshare",
    [
      "--net",
      "--mount",
      "--pid",
      "--fork",
      "--kill-child=SIGKILL",
      "--mount-proc",
      "bash",
      join(here, "node.sh"),
      folder,
      address,
    ],
    { env, stdio: ["pipe", "pipe", "pipe"] },
  );
  first.stdin.on("error", () => undefined);
  let said = "";
  for (const stream of [first.stdout, first.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(-4_000)));
  stack.defer(async () => {
    first.kill("SIGKILL");
    if (first.exitCode === null && first.signalCode === null) await once(first, "close");
    await removeGroups(group);
  });
  await waitUntil(
    "the node's namespaces",
    () => {
      if (first.exitCode !== null) throw new Error(`the node did not start: ${said}`);
      return existsSync(inside("started"));
    },
    Boolean,
    60_000,
  );
  const pid = childOf(first.pid ?? 0);
  const enter = (command: string, args: readonly string[]): Promise<CommandResult> =>
    runCommand("nsenter", ["--target", `${pid}`, "--net", "--mount", "--pid", "--", command, ...args], undefined, {
      ...containers.env,
      PATH: env.PATH,
      KUBECONFIG: admin ?? "",
    });

  // Network and mounts, but not the pids: the tunnel ends with this process.
  const socket = inside("tunnel.sock");
  const tunnel = spawn(
    "nsenter",
    ["--target", `${pid}`, "--net", "--mount", "--", process.execPath, join(here, "tunnel.ts"), socket],
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  stack.defer(() => void tunnel.kill("SIGKILL"));
  await Promise.race([
    once(tunnel.stdout, "data"),
    once(tunnel, "exit").then(([code]) => {
      throw new Error(`the way into the node's network ended with ${String(code)}`);
    }),
  ]);
  const api = stack.use(await openForward(socket, address, apiPort));
  const kubeconfigFor = async (name: string, token: string): Promise<string> => {
    const file = inside(`${name}.outside`);
    await writeFile(file, buildKubeconfig(`https://127.0.0.1:${api.port}`, credentials.ca, token), { mode: 0o600 });
    return file;
  };
  const kubeconfig = await kubeconfigFor("admin", credentials.tokens.admin);
  const kubectl = createKubectl(of("kubectl"), kubeconfig);

  const ctr = ["--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io"];
  const importImage = async (archive: string): Promise<void> => {
    const { code, stderr } = await enter("ctr", [...ctr, "images", "import", archive]);
    if (code !== 0) throw new Error(`the image ${archive} could not be imported: ${stderr}`);
  };
  await waitUntil(
    "containerd",
    async () => (await enter("ctr", [...ctr, "version"])).code,
    (code) => code === 0,
    60_000,
  );
  for (const image of [await pauseImage(), ...images]) await importImage(image);
  const isReady = async (): Promise<string> =>
    (await kubectl.run(["get", "node", "node1", "--output", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"])).stdout;
  await waitUntil("the node is ready", isReady, (status) => status === "True", 180_000).catch((cause: unknown) => {
    throw new Error(`the node is not ready:\n${tailOfLogs(inside("log"))}`, { cause });
  });
  // Pods need it, and the controller manager makes it.
  await waitUntil(
    "the default service account",
    () => kubectl.get("serviceaccount", "default"),
    (found) => found !== undefined,
    60_000,
  );

  const parts = stack.move();
  const forward = async (host: string, port: number): Promise<Forward> => {
    const opened = await openForward(socket, host, port);
    parts.defer(() => opened[Symbol.asyncDispose]());
    return opened;
  };
  return {
    folder,
    address,
    kubeconfig,
    kubectl,
    forward,
    async forwardService(name, port, namespace = "default") {
      const service = await kubectl.get("service", name, namespace);
      return await forward(String(service?.spec.clusterIP), port);
    },
    importImage,
    run: enter,
    kubeconfigFor,
    async restartApi() {
      await enter("pkill", ["--full", "--signal", "KILL", `^${of("kube-apiserver")} `]);
      await waitUntil(
        "the API server is back",
        async () => (await kubectl.run(["get", "--raw", "/readyz"])).stdout,
        (text) => text === "ok",
        120_000,
      );
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

/** A program that ends is started again, as a node's service manager would. */
const restarting = 'while true; do "$@"; sleep 0.2; done';

function childOf(pid: number): number {
  const found = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0];
  return Number(found);
}

function tailOfLogs(folder: string): string {
  return readdirSync(folder)
    .map((name) => `--- ${name}\n${readFileSync(join(folder, name), "utf8").split("\n").slice(-8).join("\n")}`)
    .join("\n");
}
