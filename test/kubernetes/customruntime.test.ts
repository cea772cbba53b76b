// ServingRuntimes as they were written for ModelMesh, with model servers made for it, in real pods behind the chart's own
// installation: where they listen, what their containers share, and what is told to them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { createClient } from "#platform/grpc.ts";
import { GRPCInferenceService, ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { createRestClient } from "../harness/http.ts";
import { waitUntil } from "../harness/wait.ts";
import { warmpathImage } from "./harness/images.ts";
import { type Installation, openInstallation } from "./harness/installation.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildInferenceService } from "./harness/objects.ts";
import { whyNoCluster } from "./harness/programs.ts";
import { createInstalled, type Installed, isLoaded, podsMs } from "./installed/installed.ts";

const skip = whyNoCluster() ?? false;
const program = readFileSync(join(import.meta.dirname, "../servers/custom/server.mjs"), "utf8");
const image = { image: warmpathImage, imagePullPolicy: "Never" };

/** What the model server says that it was given. */
interface Given {
  readonly modelName: string;
  readonly modelPath: string;
  readonly modelKey: Readonly<Record<string, unknown>>;
}

function server(env: Readonly<Record<string, string>>, more: Readonly<Record<string, unknown>> = {}): object {
  return {
    name: "server",
    ...image,
    // The packages lie there.
    workingDir: "/app",
    command: ["node", "--input-type=module", "--eval", program],
    env: Object.entries(env).map(([name, value]) => ({ name, value })),
    resources: { requests: { cpu: "50m" } },
    ...more,
  };
}

function runtimeOf(name: string, spec: Readonly<Record<string, unknown>>): string {
  const supportedModelFormats = [{ name, version: "1", autoSelect: true }];
  return JSON.stringify({
    apiVersion: "serving.kserve.io/v1alpha1",
    kind: "ServingRuntime",
    metadata: { name },
    spec: { multiModel: true, supportedModelFormats, ...spec },
  });
}

describe("a runtime made for ModelMesh", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let it: Installation;
  let installed: Installed;
  before(async () => {
    it = stack.use(await openInstallation());
    installed = createInstalled(it, []);
    const waits = "process.on('SIGTERM', () => process.exit(0)); setInterval(() => undefined, 1_000_000)";
    const idle = { name: "helper", ...image, command: ["node", "-e", waits] };
    await it.apply(
      runtimeOf("ports", {
        // Where ModelMesh's own samples have it, and the adapter of built-in servers.
        grpcEndpoint: "port:8085",
        containers: [server({ MANAGE: "port:8085" }), { ...idle, ports: [{ name: "link", containerPort: 8086 }] }],
      }),
    );
    await it.apply(
      runtimeOf("socket", {
        grpcEndpoint: "unix:/run/own/manage.sock",
        grpcDataEndpoint: "port:8001",
        storageHelper: { disabled: true },
        containers: [
          server(
            { MANAGE: "unix:/run/own/manage.sock", DATA: "port:8001", FETCHES: "yes", METRICS: "2112" },
            { ports: [{ name: "prometheus", containerPort: 2112 }] },
          ),
        ],
      }),
    );
    await it.apply(buildInferenceService("pulled", it.artefact("iris-t0001"), { modelFormat: { name: "ports", version: "1" } }));
    const storage = { key: "own", path: "models/a", parameters: { type: "s3", bucket: "theirs" } };
    const predictor = { model: { modelFormat: { name: "socket" }, storage } };
    const unpulled: KubeValue = JSON.parse(buildInferenceService("unpulled", "", {}));
    await it.apply(JSON.stringify({ ...unpulled, spec: { predictor } }));
  });
  after(() => stack.disposeAsync());

  /** By the port that clients of ModelMesh call. */
  async function given(modelName: string): Promise<Given> {
    using client = createClient(GRPCInferenceService, it.grpcTarget);
    const { outputs } = await client.modelInfer(create(ModelInferRequestSchema, { modelName }), { timeoutMs: podsMs });
    return JSON.parse(Buffer.from(outputs[0]?.contents?.bytesContents[0] ?? []).toString("utf8")) as Given;
  }

  /** In a container of the runtime's pod, by Node. */
  async function run(runtime: string, container: string, script: string): Promise<string> {
    const [pod] = await installed.runtimePods(runtime);
    const target = ["exec", pod.metadata.name, "--namespace", it.namespace, "--container", container];
    return (await it.cluster.kubectl(...target, "--", "node", "-e", script)).trim();
  }

  async function neverRestarted(runtime: string): Promise<void> {
    const [pod] = await installed.runtimePods(runtime);
    const restarts = pod.status.containerStatuses.map(({ restartCount }: KubeValue) => restartCount);
    assert.deepEqual(new Set(restarts), new Set([0]), await it.logs());
  }

  test("is managed and called on port 8085, and is given a path of its own disk", async () => {
    await it.until("isvc", "pulled", "is loaded", isLoaded, podsMs);
    const { modelName, modelPath, modelKey } = await given("pulled");
    assert.match(modelName, /^pulled/);
    assert.match(modelPath, /^\/pvc_mounts\/models\/.*iris-t0001\.onnx$/);
    assert.deepEqual(modelKey["model_type"], { name: "ports", version: "1" });
    assert.ok(Number(modelKey["disk_size_bytes"]) > 0);
    await neverRestarted("ports");
  });

  test("is called over REST too, which it has not: Envoy puts that into gRPC", async () => {
    await using client = createRestClient(it.restUrl);
    for (const name of ["pulled", "unpulled"]) {
      await it.until("isvc", name, "is loaded", isLoaded, podsMs);
      const answer = await client.ask(`/v2/models/${name}/infer`, { body: { inputs: [] } });
      assert.equal(answer.status, 200, answer.text);
      const told = answer.json as {
        readonly model_name: string;
        readonly outputs: readonly { readonly data: readonly string[] }[];
      };
      assert.equal(told.model_name, name);
      assert.deepEqual(JSON.parse(told.outputs[0]?.data[0] ?? ""), await given(name));
    }
    const absent = await client.ask("/v2/models/pulled");
    assert.equal(absent.status, 501, absent.text);
  });

  test("has all its containers see /models and the claims", async () => {
    const { modelPath } = await given("pulled");
    await run("ports", "helper", "fs.writeFileSync('/models/from-helper', 'seen')");
    assert.equal(await run("ports", "server", "console.log(fs.readFileSync('/models/from-helper', 'utf8'))"), "seen");
    const script = `console.log(fs.statSync(${JSON.stringify(modelPath)}).size > 0)`;
    assert.equal(await run("ports", "helper", script), "true");
  });

  test("is managed over a socket that its pod shares, and fetches by what it is told where it has no storage helper", async () => {
    await it.until("isvc", "unpulled", "is loaded", isLoaded, podsMs);
    const { modelPath, modelKey } = await given("unpulled");
    assert.equal(modelPath, "models/a");
    assert.deepEqual(modelKey, {
      storage_key: "own",
      storage_params: { type: "s3", bucket: "theirs" },
      model_type: { name: "socket" },
    });
    await neverRestarted("socket");
  });

  test("keeps a port that the adapter would have taken; metrics are told where the pod says, and by its Service", async () => {
    const [pod] = await installed.runtimePods("socket");
    const { "prometheus.io/port": port, "prometheus.io/scheme": scheme } = pod.metadata.annotations;
    assert.equal(scheme, "http");
    assert.notEqual(port, "2112");
    const selector = "warmpath.dev/runtime=socket";
    assert.match(await installed.scrape(selector, Number(port)), /^200 [\s\S]*^warmpath_pod_capacity_bytes 4000000000$/m);
    assert.equal(await run("socket", "server", "fetch('http://127.0.0.1:2112').then((r) => r.text()).then(console.log)"), "own");
    const { spec } = await it.get("service", "modelmesh-serving-socket");
    const told = spec.ports.find(({ name }: KubeValue) => name === "prometheus");
    assert.deepEqual([told.port, told.targetPort], [2112, Number(port)]);
  });

  test("ends when it is asked to, with its pod's other containers", async () => {
    const [pod] = await installed.runtimePods("ports");
    const codes = await it.endPod(pod.metadata.name);
    assert.deepEqual(Object.keys(codes).sort(), ["helper", "server", "warmpath-adapter"]);
    assert.equal(codes["warmpath-adapter"], 0);
    // Its successor has what it had.
    await waitUntil(
      "another pod answers",
      () => given("pulled").then(({ modelName }) => modelName, String),
      (said) => said.startsWith("pulled"),
      podsMs,
    );
  });

  test("is found by what scraped ModelMesh by its Service's label, and gateways alone are", async () => {
    const selector = ["--selector", "modelmesh-service=modelmesh-serving", "--output", "name"];
    const found = await it.cluster.kubectl("get", "services", "--namespace", it.namespace, ...selector);
    assert.equal(found.trim(), "service/modelmesh-serving");
  });
});
