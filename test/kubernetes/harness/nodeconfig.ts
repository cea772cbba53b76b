// Owns the configuration files of a node's programs.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { hierarchies } from "./groups.ts";

export interface NodeConfigs {
  readonly folder: string;
  readonly address: string;
  readonly cniFolder: string;
  readonly group: string;
  readonly proxy: string;
  readonly admin: string;
}

export async function writeConfigs({ folder, address, cniFolder, group, proxy, admin }: NodeConfigs): Promise<void> {
  const inside = (name: string): string => join(folder, name);
  await writeFile(
    inside("containerd.toml"),
    `version = 2
root = "${inside("containerd")}"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "warmpath.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${cniFolder}"
    conf_dir = "${inside("cni")}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`,
  );
  const bridge = {
    type: "bridge",
    bridge: "cni0",
    isGateway: true,
    ipMasq: true,
    hairpinMode: true,
    ipam: {
      type: "host-local",
      dataDir: inside("ipam"),
      ranges: [[{ subnet: "10.244.0.0/24" }]],
      routes: [{ dst: "0.0.0.0/0" }],
    },
  };
  await writeFile(
    inside("cni/10-pods.conflist"),
    JSON.stringify({
      cniVersion: "1.0.0",
      name: "pods",
      plugins: [bridge, { type: "portmap", capabilities: { portMappings: true } }],
    }),
  );
  await writeFile(
    inside("kubelet.yaml"),
    JSON.stringify({
      apiVersion: "kubelet.config.k8s.io/v1beta1",
      kind: "KubeletConfiguration",
      failCgroupV1: false,
      cgroupDriver: "cgroupfs",
      cgroupRoot: group,
      cgroupsPerQOS: true,
      containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
      authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
      authorization: { mode: "AlwaysAllow" },
      address,
      healthzPort: 0,
      resolvConf: "",
      clusterDNS: [address],
      clusterDomain: "cluster.local",
      failSwapOn: false,
      evictionHard: { "nodefs.available": "100Mi", "imagefs.available": "100Mi", "memory.available": "100Mi" },
      imageGCHighThresholdPercent: 100,
      imageMinimumGCAge: "24h",
      shutdownGracePeriod: "0s",
      nodeStatusUpdateFrequency: "2s",
      syncFrequency: "2s",
      serializeImagePulls: false,
      staticPodPath: inside("manifests"),
    }),
  );
  await writeFile(
    inside("proxy.yaml"),
    JSON.stringify({
      apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
      kind: "KubeProxyConfiguration",
      mode: "iptables",
      clientConnection: { kubeconfig: proxy },
      clusterCIDR: "10.244.0.0/16",
      hostnameOverride: "node1",
      // Otherwise it sets limits of the whole machine.
      conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
      metricsBindAddress: "127.0.0.1:10249",
      healthzBindAddress: "127.0.0.1:10256",
    }),
  );
  await writeFile(
    inside("Corefile"),
    `.:53 {
  bind ${address}
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local in-addr.arpa {
    kubeconfig ${admin} test
    pods insecure
  }
  cache 5
}
`,
  );
  // The kubelet wants its group to be there in every hierarchy.
  for (const hierarchy of hierarchies()) await mkdir(join(hierarchy, group), { recursive: true }).catch(() => undefined);
}
