// What runtimes become, as goldens: `NAME.yaml` is the runtime, `NAME.golden.json` what is applied for it (UPDATE_GOLDENS=1
// writes them anew).
import assert from "node:assert/strict";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { parseObject, record } from "../engine/objects.ts";
import { bindServer } from "./binding.ts";
import { buildRuntime, deploymentName, type RuntimeSettings } from "./desired.ts";
import { mountedClaims } from "./mounts.ts";
import { parseRuntime, type Runtime } from "./runtime.ts";

const goldens = join(import.meta.dirname, "goldens");
const update = process.env["UPDATE_GOLDENS"] !== undefined;

const settings: RuntimeSettings = {
  namespace: "models",
  serviceName: "modelmesh-serving",
  image: "warmpath/warmpath:1",
  imagePullPolicy: "IfNotPresent",
  imagePullSecrets: [{ name: "registry" }],
  registryFlags: ["--registry", "etcds://etcd:2379/warmpath/models", "--etcd-ca", "/etcd-config/ca.crt"],
  etcdSecret: "etcd-client",
  peerSecret: "adapter-peer",
  storageSecret: "storage-config",
  podsPerRuntime: 2,
  serviceAccount: "runtimes",
  adapterResources: { requests: { cpu: "50m", memory: "128Mi" } },
  podLabels: { team: "models", floor: "2" },
  podAnnotations: { scrape: "yes" },
  restricted: true,
  logLevel: "info",
  gatewayLabels: { "app.kubernetes.io/component": "gateway" },
  drainSeconds: 15,
};

function readRuntime(file: string): Runtime {
  const object = parseObject(parse(readFileSync(join(goldens, file), "utf8")));
  assert.ok(object);
  return parseRuntime(object);
}

describe("a runtime becomes", () => {
  for (const file of globSync("*.yaml", { cwd: goldens }).sort()) {
    test(file, () => {
      const runtime = readRuntime(file);
      assert.deepEqual(runtime.faults, []);
      const objects = buildRuntime(runtime, settings, runtime.autoscaler === undefined ? (runtime.replicas ?? 2) : undefined, [
        "data",
        "data.two",
      ]);
      const text = `${JSON.stringify({ ...objects, changes: bindServer(runtime).changes, unheeded: runtime.unheeded }, null, 2)}\n`;
      const golden = join(goldens, file.replace(".yaml", ".golden.json"));
      if (update) writeFileSync(golden, text);
      assert.equal(text, readFileSync(golden, "utf8"));
    });
  }

  test("a Deployment that tells the claims it was built with", () => {
    const runtime = readRuntime("triton-2.x.yaml");
    const { deployment } = buildRuntime(runtime, settings, 1, ["data", "data.two"]);
    assert.deepEqual(mountedClaims(record(deployment)), ["data", "data.two"]);
  });

  test("the same Deployment whatever the number of pods, but for that number", () => {
    const runtime = readRuntime("triton-2.x.yaml");
    const [one, two] = [1, 5].map((pods) => buildRuntime(runtime, settings, pods, []).deployment);
    assert.deepEqual(one!.spec!.template, two!.spec!.template);
  });

  test("an amount of accelerators' memory that is none, or of no use, keeps it from running, in a sentence", () => {
    for (const [file, amount, says] of [
      ["triton-2.x.yaml", "16 gigabytes", /accelerator-memory must be an amount such as 16Gi, not 16 gigabytes/],
      ["triton-2.x.yaml", "0", /must be an amount/],
      ["mlserver-1.x.yaml", "16Gi", /accelerator-memory is for triton/],
    ] as const) {
      const source = parse(readFileSync(join(goldens, file), "utf8"));
      source.metadata.annotations = { ...source.metadata.annotations, "warmpath.dev/accelerator-memory": amount };
      const { faults, acceleratorBytes } = parseRuntime(parseObject(source) ?? assert.fail());
      assert.equal(acceleratorBytes, undefined);
      assert.match(faults.join(), says);
    }
  });

  test("a socket that cannot be reached, or shared, keeps it from running, in a sentence", () => {
    const long = `unix:/run/${"x".repeat(120)}/grpc.sock`;
    for (const [endpoints, builtIn, says] of [
      [{ grpcEndpoint: "unix:/run/own/a.sock" }, false, /requests go straight to the model server/],
      [{ grpcEndpoint: "port:8085", grpcDataEndpoint: "unix:/run/own/a.sock" }, false, /set grpcDataEndpoint to port:NUMBER/],
      [{ grpcEndpoint: "unix:a.sock", grpcDataEndpoint: "port:1" }, false, /grpcEndpoint must be port:NUMBER or unix:/],
      [{ grpcEndpoint: "unix:/a.sock", grpcDataEndpoint: "port:1" }, false, /a folder of its own/],
      [{ grpcEndpoint: "unix:///app/../app/a.sock", grpcDataEndpoint: "port:1" }, false, /a folder of its own/],
      [{ grpcEndpoint: long, grpcDataEndpoint: "port:1" }, false, /at most 107 characters/],
      [{ grpcEndpoint: "unix:/run/own/a.sock", grpcDataEndpoint: "port:1" }, true, /the adapter's own beside builtInAdapter/],
      [{ grpcEndpoint: "unix:/run/own/a.sock", grpcDataEndpoint: "port:1" }, false, /^$/],
    ] as const) {
      const source = parse(readFileSync(join(goldens, "custom-socket.yaml"), "utf8"));
      const containers = [{ name: "mlserver", image: "example.com/server" }];
      const adapter = builtIn ? { builtInAdapter: { serverType: "mlserver" }, containers } : {};
      source.spec = { multiModel: true, supportedModelFormats: [{ name: "own" }], containers, ...endpoints, ...adapter };
      assert.match(parseRuntime(parseObject(source) ?? assert.fail()).faults.join(), says);
    }
  });

  test("an author's own volume at the folder of the socket is the one that all share", () => {
    const source = parse(readFileSync(join(goldens, "custom-socket.yaml"), "utf8"));
    source.spec.volumes = [{ name: "own", emptyDir: {} }];
    source.spec.containers[1].volumeMounts = [{ name: "own", mountPath: "/run/own/" }];
    const { deployment } = buildRuntime(parseRuntime(parseObject(source) ?? assert.fail()), settings, 1, []);
    const { containers, volumes = [] } = deployment.spec?.template.spec ?? assert.fail();
    const mounts = containers.map(({ volumeMounts = [] }) =>
      volumeMounts.filter(({ mountPath }) => mountPath.startsWith("/run/own")),
    );
    assert.deepEqual(
      mounts.map((of) => of.map(({ name }) => name)),
      [["own"], ["own"], ["own"]],
    );
    assert.ok(!volumes.some(({ name }) => name === "domain-socket"));
  });

  test("names that fit, each its own", () => {
    const names = ["a", "triton-2.x", "x".repeat(60), `${"x".repeat(59)}y`].map((name) =>
      deploymentName(name, "modelmesh-serving"),
    );
    assert.deepEqual(names.slice(0, 2), ["modelmesh-serving-a", "modelmesh-serving-triton-2.x"]);
    assert.equal(new Set(names).size, 4);
    for (const name of names) assert.match(name, /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/);
  });
});
