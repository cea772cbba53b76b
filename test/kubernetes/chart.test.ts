// The chart as text: what it renders to for each file of values (goldens beside them: UPDATE_GOLDENS=1 writes them anew), what
// its schema refuses, and that a real API server takes every object of it.
import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { parseCallers } from "#gateway/admin/callers.ts";
import { openControlPlane } from "./harness/controlplane.ts";
import { applyCrds, chartFolder } from "./harness/crds.ts";
import { runCommand } from "./harness/kubectl.ts";
import { findHelm, whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const cases = join(import.meta.dirname, "chart");
const update = process.env["UPDATE_GOLDENS"] !== undefined;

async function render(
  ...args: readonly string[]
): Promise<{ readonly code: number | null; readonly text: string; readonly error: string }> {
  const { code, stdout, stderr } = await runCommand(await findHelm(), [
    "template",
    "trial",
    chartFolder,
    "--namespace",
    "models",
    ...args,
  ]);
  return { code, text: stdout, error: stderr };
}

/** What is made anew each time. */
function withoutSecrets(text: string): string {
  return text.replaceAll(/^( +(?:ca\.crt|tls\.crt|tls\.key|tokens\.yaml|token|scrape-token): )\S+$/gm, "$1(made)");
}

async function secretsOf(...args: readonly string[]): Promise<ReadonlyMap<string, Readonly<Record<string, string>>>> {
  const { code, text, error } = await render(...args);
  assert.equal(code, 0, error);
  const found = new Map<string, Readonly<Record<string, string>>>();
  for (const document of parseAllDocuments(text)) {
    const object = (document.toJS() ?? {}) as { kind?: string; metadata?: { name: string }; data?: Record<string, string> };
    if (object.kind !== "Secret") continue;
    const data = Object.entries(object.data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]);
    found.set(object.metadata?.name ?? "", Object.fromEntries(data));
  }
  return found;
}

describe("the chart", { skip }, () => {
  for (const values of globSync("*.values.yaml", { cwd: cases }).sort()) {
    test(`renders ${values}`, async () => {
      const { code, text, error } = await render("--values", join(cases, values));
      assert.equal(code, 0, error);
      const golden = join(cases, values.replace(".values.yaml", ".golden.yaml"));
      const steady = withoutSecrets(text);
      if (update) writeFileSync(golden, steady);
      assert.equal(steady, readFileSync(golden, "utf8"));
    });
  }

  test("refuses values that cannot work, by name", async () => {
    const refusals: readonly (readonly [string, RegExp])[] = [
      ["gateway.replicas=0", /gateway.replicas|\/gateway\/replicas/],
      ["gatway.replicas=2", /gatway/],
      ["service.name=Not_A_Name", /service.name|\/service\/name/],
      ["etcd.enabled=false", /etcd.endpoints|\/etcd\/endpoints|then/],
      ["etcd.enabled=false,etcd.endpoints={etcd:2379},etcd.user=shop", /need etcd.secretName/],
      ["etcd.enabled=false,etcd.endpoints={10.0.0.1:2379},etcd.serverName=etcd.shop", /need etcd.tls/],
      ["etcd.clientCertificate=perhaps", /clientCertificate/],
      ["tls.clientAuth=perhaps", /clientAuth/],
      ["tls.clientAuth=require", /needs tls.secretName/],
      ["tls.clientAuth=require,tls.secretName=a,tls.plainText=accept", /exclude each other/],
      ["tls.plainText=perhaps", /plainText/],
      ["tls.enabled=false,tls.plainText=refuse", /need tls.enabled/],
      ["peerTls.gatewaySecretName=mine", /go together/],
      ["peerTls.enable=false", /enable/],
      ["auth.enable=true", /enable/],
      ["auth.enabled=true,auth.clientCertificates=dns", /needs tls.clientAuth: require/],
      ["sleep.afterSeconds=soon", /afterSeconds/],
      ["adapter.resources.limit.memory=1Gi", /'limit' not allowed/],
      ["gateway.affinity.nodeAfinity.x=y", /'nodeAfinity' not allowed/],
    ];
    for (const [setting, says] of refusals) {
      const { code, error } = await render("--set", setting);
      assert.notEqual(code, 0, setting);
      assert.match(error, says);
    }
  });

  test("makes certificates of one authority for its processes, each for its own role, and tokens of which gateways know hashes", async () => {
    const secrets = await secretsOf();
    assert.deepEqual([...secrets.keys()].sort(), [
      "trial-warmpath-adapter-peer",
      "trial-warmpath-etcd-client",
      "trial-warmpath-etcd-server",
      "trial-warmpath-gateway-peer",
      "trial-warmpath-management-tls",
      "trial-warmpath-management-tokens",
      "trial-warmpath-serving",
    ]);
    const names: Readonly<Record<string, RegExp>> = {
      "adapter-peer": /DNS:adapter\.warmpath/,
      "gateway-peer": /DNS:gateway\.warmpath/,
      "etcd-server": /DNS:trial-warmpath-etcd, DNS:trial-warmpath-etcd\.models,/,
      "management-tls": /DNS:trial-warmpath-management, DNS:trial-warmpath-management\.models,.* DNS:localhost/,
      serving: /DNS:modelmesh-serving, DNS:modelmesh-serving\.models, DNS:modelmesh-serving\.models\.svc,/,
    };
    const peers = new X509Certificate(secrets.get("trial-warmpath-gateway-peer")?.["ca.crt"] ?? "");
    for (const [name, expected] of Object.entries(names)) {
      const secret = secrets.get(`trial-warmpath-${name}`) ?? {};
      const own = new X509Certificate(secret["tls.crt"] ?? "");
      const authority = new X509Certificate(secret["ca.crt"] ?? "");
      assert.match(own.subjectAltName ?? "", expected);
      assert.ok(own.verify(authority.publicKey) && own.checkPrivateKey(createPrivateKey(secret["tls.key"] ?? "")), name);
      // Who may call models, or the management API, is no peer.
      assert.equal(authority.fingerprint256 === peers.fingerprint256, name !== "serving" && name !== "management-tls", name);
    }
    const { token = "", "scrape-token": scrape = "", ...known } = secrets.get("trial-warmpath-management-tokens") ?? {};
    const callers = parseCallers(known["tokens.yaml"] ?? "");
    assert.deepEqual(await callers.find(token), { name: "controller", role: "write" });
    assert.deepEqual(await callers.find(scrape), { name: "scrape", role: "read" });
    assert.deepEqual(Object.keys(known), ["tokens.yaml"]);
  });

  test("makes nothing for who brings his own, or says that he wants none", async () => {
    const own =
      "peerTls.gatewaySecretName=a,peerTls.adapterSecretName=b,managementTokens.secretName=c,tls.secretName=d,managementTls.secretName=e";
    const brought = await secretsOf("--set", own, "--set", "etcd.enabled=false,etcd.endpoints={etcd:2379}");
    assert.deepEqual([...brought.keys()], []);
    const { text } = await render("--set", own);
    for (const name of ["a", "c", "d", "e"]) assert.match(text, new RegExp(`secretName: ${name}\\b`));
    assert.match(text, /--peer-secret=b/);
    const off = ["peerTls", "managementTokens", "managementTls", "tls"].map((name) => `${name}.enabled=false`).join(",");
    const plain = await render("--set", off);
    assert.doesNotMatch(
      plain.text,
      /kind: Secret|--peer-(?:ca|cert|key|secret)|--admin-(?:tokens|cert|key)|--gateway-(?:token-file|ca)|--tls-|https:|etcds:/,
    );
  });

  test("is scraped by the Service that clients call, but not where that is reached from outside, or somebody says otherwise", async () => {
    const rendered = async (...set: readonly string[]): Promise<string> => {
      const { code, text, error } = await render(...set.flatMap((value) => ["--set", value]));
      assert.equal(code, 0, error);
      return text;
    };
    const scraped = ["name: prometheus, port: 2112", "port: prometheus }", "--metrics-port=2112", "containerPort: 2112"];
    const usual = await rendered();
    for (const text of scraped) assert.ok(usual.includes(text), text);
    assert.ok(!usual.includes("--modelmesh-metrics"));
    for (const set of ["service.type=LoadBalancer", "service.type=NodePort", "metrics.service.enabled=false"]) {
      const other = await rendered(set);
      for (const text of scraped) assert.ok(!other.includes(text), `${set}: ${text}`);
    }
    const named = await rendered("metrics.modelmeshNames=true", "metrics.service.port=9112");
    assert.match(named, /^ +- --modelmesh-metrics$/m);
    assert.match(named, /--adapter-args=\["--modelmesh-metrics"\]/);
    assert.match(named, /name: prometheus, port: 9112, targetPort: prometheus/);
  });

  test("answers plain text beside TLS until callers must prove who they are, or somebody says otherwise", async () => {
    const cases: readonly (readonly [setting: string, plain: boolean])[] = [
      ["tls.enabled=true", true],
      ["tls.plainText=refuse", false],
      ["auth.enabled=true", false],
      ["auth.enabled=true,tls.plainText=accept", true],
      ["tls.secretName=a,tls.clientAuth=require", false],
    ];
    for (const [setting, plain] of cases) {
      const { code, text, error } = await render("--set", setting);
      assert.equal(code, 0, error);
      assert.match(text, /--tls-cert=/, setting);
      assert.equal(text.includes("--plain-text"), plain, setting);
      assert.equal(text.includes("--service-tls=false"), plain, setting);
    }
  });

  test("has no pod that could do more than it must", async () => {
    const { text } = await render();
    const objects = parseAllDocuments(text).flatMap((document) => (document.toJS() ?? []) as readonly PodOwner[]);
    const owners = objects.filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet");
    assert.equal(owners.length, 3);
    for (const { metadata, spec } of owners) {
      const pod = spec.template.spec;
      assert.equal(pod.securityContext.runAsNonRoot, true, metadata.name);
      assert.equal(pod.securityContext.seccompProfile.type, "RuntimeDefault", metadata.name);
      for (const container of [...pod.containers, ...(pod.initContainers ?? [])]) {
        assert.deepEqual(container.securityContext.capabilities, { drop: ["ALL"] }, container.name);
        assert.equal(container.securityContext.allowPrivilegeEscalation, false, container.name);
        assert.equal(container.securityContext.readOnlyRootFilesystem, true, container.name);
        assert.notEqual(container.resources.limits.memory, undefined, container.name);
      }
    }
  });

  test("is taken whole by a real API server, in a namespace of the strictest kind", async () => {
    await using plane = await openControlPlane();
    await applyCrds(plane.kubectl);
    await plane.kubectl("create", "namespace", "models");
    await plane.kubectl("label", "namespace", "models", "pod-security.kubernetes.io/warn=restricted");
    for (const values of ["default.values.yaml", "production.values.yaml"]) {
      const { text } = await render("--values", join(cases, values), "--set", "metrics.serviceMonitor.enabled=false");
      const { code, stderr } = await plane.kubectl.run(
        ["apply", "--server-side", "--dry-run=server", "--namespace", "models", "--filename", "-"],
        text,
      );
      assert.equal(code, 0, stderr);
      assert.doesNotMatch(stderr, /would violate|unknown field/);
    }
  });
});

interface PodOwner {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly securityContext: { readonly runAsNonRoot: boolean; readonly seccompProfile: { readonly type: string } };
        readonly containers: readonly Container[];
        readonly initContainers?: readonly Container[];
      };
    };
  };
}

interface Container {
  readonly name: string;
  readonly securityContext: {
    readonly capabilities: unknown;
    readonly allowPrivilegeEscalation: boolean;
    readonly readOnlyRootFilesystem: boolean;
  };
  readonly resources: { readonly limits: { readonly memory?: string } };
}
