// Owns the programs of a Kubernetes node: one binary built from the Go module beside this folder, and Debian's container
// runtime, taken out of its packages without being installed. Both lie in the cache, keyed by content; the first build
// takes some ten minutes of two cores.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { holdLock } from "../../../cli/setup/lock.mjs";
import { cacheFolder, openCache } from "../../../cli/setup/wheels.mjs";
import { goBuild, goVersion } from "../../harness/go.ts";
import { run } from "../../harness/kept.ts";

export const kubernetesVersion = "1.35.4";
const helmVersion = "3.22.0";
const buildLimitMs = 3_600_000;

const source = fileURLToPath(new URL("../programs/", import.meta.url));
const helmSource = fileURLToPath(new URL("../helm/", import.meta.url));
const policiesSource = fileURLToPath(new URL("../policies/", import.meta.url));
const names = [
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kubelet",
  "kube-proxy",
  "kubectl",
  "coredns",
];
const packages = ["containerd", "runc", "containernetworking-plugins", "iptables", "ipset", "conntrack", "iproute2"];

/** Why no Kubernetes can run here, in one sentence; undefined when it can. */
export function whyNoControlPlane(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "Kubernetes is only run on Linux, x86-64";
  if (goVersion() === undefined) return "Go is missing: install it to run Kubernetes";
  if (spawnSync("openssl", ["version"], { stdio: "ignore" }).status !== 0) return "openssl is missing: install it";
  return undefined;
}

/** The same for a whole node with pods. */
export function whyNoCluster(): string | undefined {
  const reason = whyNoControlPlane();
  if (reason !== undefined) return reason;
  if (process.getuid?.() !== 0) return "pods need root";
  for (const tool of ["unshare", "nsenter", "dpkg-deb", "apt-get"]) {
    if (spawnSync("sh", ["-c", `command -v ${tool}`], { stdio: "ignore" }).status !== 0) return `${tool} is missing: install it`;
  }
  return undefined;
}

/** The folder of the programs by their names (`kubectl`, `etcd`, ...) and `pause`; builds them if need be. */
export async function findPrograms(): Promise<string> {
  const files = ["go.mod", "go.sum", "main.go", "pause/main.go"].map((name) => readFileSync(join(source, name)));
  return await cached("kubernetes", [...files, goVersion() ?? "", kubernetesVersion], async (folder) => {
    const about = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].flatMap((path) => [
      `-X ${path}.gitVersion=v${kubernetesVersion}`,
      `-X ${path}.gitMajor=${kubernetesVersion.split(".")[0]}`,
      `-X ${path}.gitMinor=${kubernetesVersion.split(".")[1]}`,
      `-X ${path}.gitTreeState=clean`,
      `-X ${path}.buildDate=1970-01-01T00:00:00Z`,
    ]);
    await goBuild(source, ["-ldflags", `-s -w ${about.join(" ")}`, "-o", join(folder, "node"), "."]);
    await goBuild(source, ["-ldflags", "-s -w", "-o", join(folder, "pause"), "./pause"]);
    for (const name of names) symlinkSync("node", join(folder, name));
  });
}

/** The helm command; builds it if need be. */
export async function findHelm(): Promise<string> {
  const files = ["go.mod", "go.sum"].map((name) => readFileSync(join(helmSource, name)));
  const [major, minor] = kubernetesVersion.split(".");
  const chartutil = "helm.sh/helm/v3/pkg/chartutil";
  // What it takes a cluster to be when it renders without one.
  const cluster = `-X ${chartutil}.k8sVersionMajor=${major} -X ${chartutil}.k8sVersionMinor=${minor}`;
  const about = `-s -w -X helm.sh/helm/v3/internal/version.version=v${helmVersion} ${cluster}`;
  const folder = await cached("helm", [...files, goVersion() ?? "", about], async (folder) => {
    await goBuild(helmSource, ["-ldflags", about, "-o", join(folder, "helm"), "helm.sh/helm/v3/cmd/helm"]);
  });
  return join(folder, "helm");
}

/** What enforces NetworkPolicies on a node; builds it if need be. */
export async function findPolicies(): Promise<string> {
  const files = ["go.mod", "go.sum", "main.go"].map((name) => readFileSync(join(policiesSource, name)));
  const folder = await cached("policies", [...files, goVersion() ?? ""], async (folder) => {
    await goBuild(policiesSource, ["-ldflags", "-s -w", "-o", join(folder, "policies"), "."]);
  });
  return join(folder, "policies");
}

export interface ContainerPrograms {
  /** To be put before PATH. */
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;
  readonly cniFolder: string;
}

/** containerd, runc and what kube-proxy calls, out of Debian's packages. */
export async function findContainerPrograms(): Promise<ContainerPrograms> {
  const debian = existsSync("/etc/debian_version") ? readFileSync("/etc/debian_version") : "";
  const folder = await cached("containers", [packages.join(), debian], async (folder) => {
    const archives = join(folder, "archives");
    mkdirSync(join(archives, "partial"), { recursive: true });
    const download = ["install", "--yes", "--reinstall", "--no-install-recommends", "--download-only", "-oDebug::NoLocking=1"];
    const apt = async (...args: string[]): Promise<string> =>
      run("apt-get", args, { cwd: folder, env: { DEBIAN_FRONTEND: "noninteractive" } });
    const into = `-oDir::Cache::archives=${archives}`;
    try {
      await apt(...download, into, ...packages);
    } catch {
      // Lists of packages that are old or missing; kept to ourselves.
      const state = `-oDir::State::lists=${join(folder, "lists")}`;
      mkdirSync(join(folder, "lists", "partial"), { recursive: true });
      await apt("update", state);
      await apt(...download, into, state, ...packages);
    }
    for (const archive of globSync(join(archives, "*.deb"))) await run("dpkg-deb", ["--extract", archive, folder]);
    rmSync(archives, { recursive: true });
    rmSync(join(folder, "lists"), { recursive: true, force: true });
    mkdirSync(join(folder, "links"));
    for (const name of ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"])
      symlinkSync("../usr/sbin/xtables-nft-multi", join(folder, "links", name));
  });
  const [libraries] = globSync(join(folder, "usr/lib/*-linux-gnu"));
  if (libraries === undefined) throw new Error(`${folder} holds no libraries`);
  return {
    path: ["links", "usr/bin", "usr/sbin", "bin", "sbin"].map((part) => join(folder, part)).join(":"),
    env: { LD_LIBRARY_PATH: libraries, XTABLES_LIBDIR: join(libraries, "xtables") },
    cniFolder: join(folder, "usr/lib/cni"),
  };
}

/** A folder of the cache that is made once for its content; several processes may want it at once. */
async function cached(
  what: string,
  content: readonly (string | Uint8Array)[],
  fill: (folder: string) => Promise<void>,
): Promise<string> {
  const hash = createHash("sha256");
  for (const part of content) hash.update(part).update("\0");
  const folder = join(cacheFolder(), `${what}-${hash.digest("hex").slice(0, 16)}`);
  if (existsSync(folder)) return folder;
  openCache();
  const lock = await holdLock(undefined, join(cacheFolder(), `lock-${basename(folder)}`), buildLimitMs);
  try {
    if (existsSync(folder)) return folder;
    const work = mkdtempSync(join(cacheFolder(), "part-"));
    await fill(work).catch((error: unknown) => {
      rmSync(work, { recursive: true, force: true });
      throw error;
    });
    renameSync(work, folder);
    return folder;
  } finally {
    lock.release();
  }
}
