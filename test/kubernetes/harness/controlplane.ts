// Owns a Kubernetes without nodes: etcd and an API server on loopback ports of this machine, in a folder of their own.
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { Agent, request } from "undici";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { buildKubeconfig, type Credentials, makeCredentials } from "./certificates.ts";
import { createKubectl, type Kubectl } from "./kubectl.ts";
import { findPrograms } from "./programs.ts";

export interface ControlPlane extends AsyncDisposable {
  readonly folder: string;
  readonly kubeconfig: string;
  readonly url: string;
  readonly ca: string;
  readonly etcdUrl: string;
  readonly kubectl: Kubectl;
  /** A kubeconfig for another token. */
  kubeconfigFor(name: string, token: string): Promise<string>;
  /** Kills the API server and starts it again on the same data; resolves when it is ready. */
  restartApi(): Promise<void>;
}

const loopback = "127.0.0.1";

export async function openControlPlane(): Promise<ControlPlane> {
  await using stack = new AsyncDisposableStack();
  const bin = await findPrograms();
  const run = stack.use(await openRunFolder());
  const pki = join(run.path, "pki");
  await mkdir(pki);
  const credentials = await makeCredentials(pki, []);
  const [apiPort, etcdPort, peerPort] = await freePorts(3);
  const url = `https://${loopback}:${apiPort}`;
  const etcdUrl = `http://${loopback}:${etcdPort}`;
  const kubeconfigFor = async (name: string, token: string): Promise<string> => {
    const file = join(run.path, `${name}.kubeconfig`);
    await writeFile(file, buildKubeconfig(url, credentials.ca, token), { mode: 0o600 });
    return file;
  };
  const kubeconfig = await kubeconfigFor("admin", credentials.tokens.admin);
  const lines: string[] = [];
  const keep = (line: string): void => void (lines.push(line) > 200 && lines.shift());
  const etcd = stack.use(
    superviseProcess({
      name: "etcd",
      command: join(bin, "etcd"),
      args: etcdArgs(join(run.path, "etcd"), etcdUrl, `http://${loopback}:${peerPort}`),
      readyProbe: () => isWell(`${etcdUrl}/health`),
      onOutput: keep,
    }),
  );
  await etcd.ready;
  const startApi = (): SupervisedProcess =>
    superviseProcess({
      name: "kube-apiserver",
      command: join(bin, "kube-apiserver"),
      args: apiServerArgs({ credentials, etcdUrl, address: loopback, port: apiPort, reconciler: "none" }),
      readyProbe: () => isWell(`${url}/readyz`, credentials),
      readyTimeoutMs: 120_000,
      restart: { kind: "never" },
      onOutput: keep,
    });
  let api = startApi();
  stack.defer(() => api.stop(100));
  await api.ready.catch((cause: unknown) => {
    throw new Error(`the API server did not start: ${lines.slice(-20).join("\n")}`, { cause });
  });
  const parts = stack.move();
  return {
    folder: run.path,
    kubeconfig,
    url,
    ca: credentials.ca,
    etcdUrl,
    kubectl: createKubectl(join(bin, "kubectl"), kubeconfig),
    kubeconfigFor,
    async restartApi() {
      await api.stop(0);
      api = startApi();
      await api.ready;
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

export function etcdArgs(folder: string, clientUrl: string, peerUrl: string): readonly string[] {
  return [
    `--data-dir=${folder}`,
    "--unsafe-no-fsync",
    "--log-level=warn",
    `--listen-client-urls=${clientUrl}`,
    `--advertise-client-urls=${clientUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
  ];
}

export interface ApiServer {
  readonly credentials: Credentials;
  readonly etcdUrl: string;
  readonly address: string;
  readonly port: number;
  /** Who keeps the endpoints of the service `kubernetes`: none on loopback, which is no address for pods. */
  readonly reconciler: "none" | "lease";
}

export function apiServerArgs({ credentials, etcdUrl, address, port, reconciler }: ApiServer): readonly string[] {
  const file = (name: string): string => join(credentials.folder, name);
  return [
    `--etcd-servers=${etcdUrl}`,
    `--bind-address=${address}`,
    `--secure-port=${port}`,
    `--advertise-address=${address}`,
    `--endpoint-reconciler-type=${reconciler}`,
    "--service-cluster-ip-range=10.96.0.0/16",
    "--allow-privileged=true",
    `--tls-cert-file=${file("api.crt")}`,
    `--tls-private-key-file=${file("api.key")}`,
    `--client-ca-file=${file("ca.crt")}`,
    `--token-auth-file=${file("tokens.csv")}`,
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${file("sa.pub")}`,
    `--service-account-signing-key-file=${file("sa.key")}`,
    "--kubelet-preferred-address-types=InternalIP",
    "--profiling=false",
  ];
}

async function isWell(url: string, credentials?: Credentials): Promise<boolean> {
  const agent = new Agent({ connect: credentials === undefined ? {} : { ca: credentials.ca } });
  const headers = credentials === undefined ? {} : { authorization: `Bearer ${credentials.tokens.admin}` };
  try {
    const { statusCode, body } = await request(url, { dispatcher: agent, headers, headersTimeout: 2_000, bodyTimeout: 2_000 });
    await body.dump();
    return statusCode === 200;
  } finally {
    await agent.destroy();
  }
}

/** Ports that are free now, below those that the system gives to clients. */
async function freePorts(count: number): Promise<readonly [number, number, number]> {
  const found = new Set<number>();
  while (found.size < count) {
    const port = 15_000 + Math.floor(Math.random() * 17_000);
    if (await isFree(port)) found.add(port);
  }
  const [first = 0, second = 0, third = 0] = found;
  return [first, second, third];
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<boolean>();
  server.once("error", () => resolve(false));
  server.listen(port, loopback, () => server.close(() => resolve(true)));
  return await promise;
}
