// The chart's own installation on a real Kubernetes with real pods: what the predecessor's users do by kubectl, and what they
// are told. One cluster for all; each test has models of its own.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Agent, request } from "undici";
import { createClient } from "#platform/grpc.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { GRPCInferenceService, ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { mlserverModels, readAnswers } from "../harness/mlserver.ts";
import { torchserveModels } from "../harness/torchserve.ts";
import { writeTritonModels } from "../harness/triton.ts";
import { waitUntil } from "../harness/wait.ts";
import { warmpathImage } from "./harness/images.ts";
import { claimName, type Installation, openInstallation } from "./harness/installation.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildMlserverImage } from "./harness/mlserverimage.ts";
import { buildInferenceService, buildPredictor, onnxRuntime } from "./harness/objects.ts";
import { whyNoCluster } from "./harness/programs.ts";
import { idlePod, tryFrom } from "./harness/reach.ts";
import { buildTorchserveImage } from "./harness/torchserveimage.ts";
import { buildTritonImage } from "./harness/tritonimage.ts";
import { createInstalled, gatewayPods, type Installed, isLoaded, podsMs } from "./installed/installed.ts";
import { testScaling } from "./installed/scaling.ts";
import { testStorage } from "./installed/storage.ts";

const skip = whyNoCluster() ?? false;
/** Of the chart's own runtimes those of MLServer, Triton and TorchServe. */
const values = [
  "maxPodsPerRuntime=2",
  "scaleDownAfterSeconds=10",
  "clusterRuntimes.create=true",
  ...["onnx", "openvino"].map((name) => `clusterRuntimes.${name}=false`),
];

describe("an installation by helm", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let it: Installation;
  let installed: Installed;
  let mlserver: string;
  before(async () => {
    mlserver = await mlserverModels();
    const folder = stack.use(await openRunFolder());
    await writeTritonModels(folder.path);
    const images = [await buildMlserverImage(), await buildTritonImage(), await buildTorchserveImage()];
    const artefacts = { mlserver, triton: folder.path, torchserve: await torchserveModels() };
    it = stack.use(await openInstallation(values, { images, artefacts }));
    installed = createInstalled(it, values);
    await it.apply(onnxRuntime());
  });
  after(() => stack.disposeAsync());

  const runtimePods = (): Promise<readonly KubeValue[]> => installed.runtimePods();
  const answers = (model: string): Promise<void> => installed.answers(model);

  test("kubectl apply of a runtime and an InferenceService ends in right answers on 8033 and 8008, kubectl delete in 404", async () => {
    const model = "iris-t0001";
    await it.apply(buildInferenceService(model, it.artefact(model)));
    const status = await it.until("isvc", model, "is loaded", isLoaded, podsMs);
    assert.equal(status.modelStatus.transitionStatus, "UpToDate");
    assert.equal(status.url, "grpc://modelmesh-serving.models:8033");
    assert.equal(status.components.predictor.restUrl, "http://modelmesh-serving.models:8008");
    await answers(model);
    // By the chart's own account.
    await installed.untilTold("InferenceService", model, "Loaded");
    await installed.untilTold("ServingRuntime", "onnx", "ScaledUp");
    await it.remove("isvc", model);
    await waitUntil(
      "it answers 404",
      () => it.ask(`/v2/models/${model}/ready`),
      ({ status }) => status === 404,
      60_000,
    );
  });

  test("a Predictor with storage.path on a claim is loaded and answers", async () => {
    const model = "wine-t0001";
    const path = `models/wine/${model}.onnx`;
    await it.apply(buildPredictor(model, { storage: { path, parameters: { type: "pvc", name: claimName } } }));
    const status = await it.until("predictor", model, "is loaded", (seen) => seen.activeModelState === "Loaded", podsMs);
    assert.deepEqual([status.available, status.transitionStatus], [true, "UpToDate"]);
    await answers(model);
  });

  test("a real MLServer in the chart's own runtime answers for scikit-learn on 8033 and 8008", async (context) => {
    const startMs = performance.now();
    const { rows, sklearn } = await readAnswers(mlserver);
    const name = "sklearn-iris";
    await it.apply(buildInferenceService(name, `pvc://${claimName}/mlserver/sklearn`, { modelFormat: { name: "sklearn" } }));
    await it.until("isvc", name, "is loaded", isLoaded, podsMs);
    context.diagnostic(`until it was loaded: ${Math.round(performance.now() - startMs)} ms`);
    const input = { name: "x", shape: [rows.length, 4], datatype: "FP32" };
    const rest = await it.ask(`/v2/models/${name}/infer`, { inputs: [{ ...input, data: rows.flat() }] });
    assert.equal(rest.status, 200, rest.text);
    assert.deepEqual((rest.json as { outputs: { data: number[] }[] }).outputs[0]?.data, sklearn);
    using client = createClient(GRPCInferenceService, it.grpcTarget);
    const { outputs } = await client.modelInfer(
      create(ModelInferRequestSchema, {
        modelName: name,
        inputs: [{ ...input, shape: input.shape.map(BigInt), contents: { fp32Contents: rows.flat() } }],
      }),
      { timeoutMs: podsMs },
    );
    assert.deepEqual(outputs[0]?.contents?.int64Contents.map(Number), sklearn);
    await it.remove("isvc", name);
  });

  test("a real Triton in the chart's own runtime answers for a model in Python on 8033 and 8008", async (context) => {
    const startMs = performance.now();
    const name = "addsub";
    await it.apply(buildInferenceService(name, `pvc://${claimName}/triton/${name}`, { modelFormat: { name: "pytorch" } }));
    await it.until("isvc", name, "is loaded", isLoaded, podsMs);
    context.diagnostic(`until it was loaded: ${Math.round(performance.now() - startMs)} ms`);
    const inputs = [
      { name: "INPUT0", shape: [4], datatype: "FP32", data: [1, 2, 3, 4] },
      { name: "INPUT1", shape: [4], datatype: "FP32", data: [4, 3, 2, 1] },
    ];
    const expected = { OUTPUT0: [5, 5, 5, 5], OUTPUT1: [-3, -1, 1, 3] };
    const rest = await it.ask(`/v2/models/${name}/infer`, { inputs });
    assert.equal(rest.status, 200, rest.text);
    const { outputs: told } = rest.json as { readonly outputs: readonly { readonly name: string; readonly data: number[] }[] };
    assert.deepEqual(Object.fromEntries(told.map(({ name: of, data }) => [of, data])), expected);
    using client = createClient(GRPCInferenceService, it.grpcTarget);
    const { outputs, rawOutputContents } = await client.modelInfer(
      create(ModelInferRequestSchema, {
        modelName: name,
        inputs: inputs.map(({ data, shape, ...input }) => ({
          ...input,
          shape: shape.map(BigInt),
          contents: { fp32Contents: data },
        })),
      }),
      { timeoutMs: podsMs },
    );
    const floats = (raw: Uint8Array | undefined): number[] => [...new Float32Array(Uint8Array.from(raw ?? []).buffer)];
    assert.deepEqual(Object.fromEntries(outputs.map(({ name: of }, at) => [of, floats(rawOutputContents[at])])), expected);
    await it.remove("isvc", name);
  });

  test("a real TorchServe in the chart's own runtime answers on 8008, by V2 and V1", async (context) => {
    const startMs = performance.now();
    const name = "twice";
    const modelFormat = { name: "pytorch-mar" };
    await it.apply(buildInferenceService(name, `pvc://${claimName}/torchserve/${name}.mar`, { modelFormat }));
    await it.until("isvc", name, "is loaded", isLoaded, podsMs);
    context.diagnostic(`until it was loaded: ${Math.round(performance.now() - startMs)} ms`);
    const inputs = [{ name: "x", shape: [2], datatype: "FP32", data: [5, -1] }];
    const second = await it.ask(`/v2/models/${name}/infer`, { inputs });
    assert.equal(second.status, 200, second.text);
    assert.deepEqual((second.json as { outputs: { data: number[] }[] }).outputs[0]?.data, [10, -2]);
    const first = await it.ask(`/v1/models/${name}:predict`, { instances: [5, -1] });
    assert.equal(first.status, 200, first.text);
    assert.deepEqual(first.json, { predictions: [10, -2] });
    await it.remove("isvc", name);
  });

  testStorage(() => installed);

  test("an edit moves the name to the new revision; one that cannot be loaded blocks, and the old one serves on", async () => {
    const model = "iris-t0002";
    await it.apply(buildInferenceService(model, it.artefact("iris-t0003")));
    await it.until("isvc", model, "is loaded", isLoaded, podsMs);
    await it.apply(buildInferenceService(model, it.artefact(model)));
    await it.until(
      "isvc",
      model,
      "is up to date",
      (seen) => isLoaded(seen) && seen.observedGeneration === 2 && seen.modelStatus.transitionStatus === "UpToDate",
      podsMs,
    );
    await answers(model);
    await it.apply(buildInferenceService(model, `pvc://${claimName}/models/not-there.onnx`));
    const status = await it.until(
      "isvc",
      model,
      "is blocked",
      (seen) => seen.modelStatus?.transitionStatus === "BlockedByFailedLoad",
      podsMs,
    );
    assert.deepEqual(status.modelStatus.states, { activeModelState: "Loaded", targetModelState: "FailedToLoad" });
    await answers(model);
  });

  test("a runtime that changes rolls its pods under load, and no request fails", async () => {
    const before = (await installed.deployment()).metadata.generation;
    let asked = 0;
    const failures: string[] = [];
    const stop = new AbortController();
    const load = ["rest", "grpc"].map(async (wire) => {
      while (!stop.signal.aborted) {
        await it.asker.ask("wine-t0001", wire as "rest" | "grpc").catch((error: unknown) => void failures.push(String(error)));
        asked += 1;
      }
    });
    await it.apply(onnxRuntime("onnx", { labels: { turn: "two" } }));
    await waitUntil(
      "the new pods alone are left",
      async () => ({ ...(await installed.deployment()).status, pods: (await runtimePods()).length }),
      (status) =>
        status.observedGeneration > before &&
        status.updatedReplicas === status.replicas &&
        status.readyReplicas === status.replicas &&
        status.pods === status.replicas,
      podsMs,
    );
    stop.abort();
    await Promise.all(load);
    assert.ok(asked > 0);
    assert.deepEqual(failures, [], `${failures.length} of ${asked} failed\n${await it.logs()}`);
  });

  test("each process tells its metrics to who scrapes as the monitors of the chart say", async () => {
    assert.match(await installed.scrape(gatewayPods, 8080), /^401 /);
    assert.match(await installed.scrapeGateway(), /^200 [\s\S]*^warmpath_/m);
    // As ModelMesh was: by the Service, over TLS, without a token, and nothing else is there.
    assert.match(await installed.scrapeService("/metrics"), /^200 [\s\S]*^warmpath_models \d/m);
    assert.match(await installed.scrapeService("/api/v1/models"), /^404 /);
    assert.match(await installed.scrape("warmpath.dev/runtime=onnx", 2112), /^200 [\s\S]*^warmpath_pod_ready_copies \d/m);
    assert.match(
      await installed.scrape("app.kubernetes.io/component=controller", 8082),
      /^200 [\s\S]*^warmpath_controller_leading 1$/m,
    );
  });

  test("the trial's etcd is reached by the processes of the release, and by nobody else", async () => {
    const name = "stranger";
    await it.apply(idlePod(name, warmpathImage));
    await it.cluster.kubectl("wait", "--for=condition=Ready", `pod/${name}`, "--namespace", it.namespace, "--timeout=240s");
    const [etcd] = await it.pods("app.kubernetes.io/component=etcd");
    const place = [{ address: String(etcd.status.podIP), port: 2379 }];
    const from = async (pod: string, container: string): Promise<string | undefined> =>
      (await tryFrom(it, { namespace: it.namespace, pod, container }, place))[0];
    // The network of the cluster learns of pods that have just come after a moment.
    const untilIs = (pod: string, container: string, word: string): Promise<unknown> =>
      waitUntil(
        `the etcd is ${word} for ${pod}`,
        () => from(pod, container),
        (said) => said === word,
        podsMs,
      );
    for (const [selector, container] of [
      [gatewayPods, "gateway"],
      ["app.kubernetes.io/component=controller", "controller"],
      ["warmpath.dev/runtime=onnx", "warmpath-adapter"],
    ] as const) {
      const pods = await it.pods(selector);
      const running = pods.find(({ metadata, status }) => metadata.deletionTimestamp === undefined && status.phase === "Running");
      await untilIs(running.metadata.name, container, "open");
    }
    await untilIs(name, "idle", "closed");
    await it.remove("pod", name);
  });

  test("pods end by themselves when they are told to, and are not killed: those that serve once they are drained, and those that only start", async (context) => {
    const [pod] = await runtimePods();
    const end = async (what: string, name: string): Promise<Readonly<Record<string, number>>> => {
      const startMs = performance.now();
      const codes = await it.endPod(name);
      context.diagnostic(`${what}: ${Math.round(performance.now() - startMs)} ms, ${JSON.stringify(codes)}`);
      // Killed at the end of its time, which is 90 s.
      assert.ok(!Object.values(codes).includes(137), `${what}: ${JSON.stringify(codes)}`);
      return codes;
    };
    assert.deepEqual(await end("a pod that served", pod.metadata.name), { onnx: 0, "warmpath-adapter": 0 });
    const next = await waitUntil(
      "another one is there",
      runtimePods,
      (pods) => pods.some(({ spec, metadata }) => spec.nodeName !== undefined && metadata.name !== pod.metadata.name),
      podsMs,
    );
    await end("a pod that was starting", next.find(({ metadata }) => metadata.name !== pod.metadata.name).metadata.name);
    await answers("wine-t0001");
  });

  testScaling(() => installed);

  test("an upgrade keeps the certificates and tokens that the first installation made, and the ports refuse plain text once told to", async () => {
    const names = [
      "warmpath-serving",
      "warmpath-management-tls",
      "warmpath-gateway-peer",
      "warmpath-adapter-peer",
      "warmpath-etcd-server",
      "warmpath-management-tokens",
    ];
    const before = await Promise.all(names.map((name) => it.secret(name)));
    const { "ca.crt": ca = "" } = await it.secret("warmpath-serving");
    await using stack = new AsyncDisposableStack();
    const connect = { ca, servername: "modelmesh-serving.models" };
    const dispatcher = stack.adopt(new Agent({ connect }), (agent) => agent.destroy());
    const secured = async (): Promise<string> => {
      const port = await it.cluster.forwardService("modelmesh-serving", 8008, it.namespace);
      return await request(`https://${port.host}:${port.port}/v2/models/iris-t0001/ready`, { dispatcher }).then(
        async ({ statusCode, body }) => `${statusCode} ${await body.text()}`,
        String,
      );
    };
    // Plain text is answered as well: the tests before this one speak nothing else.
    assert.match(await secured(), /^200/);
    await installed.upgrade("tls.plainText=refuse");
    assert.deepEqual(await Promise.all(names.map((name) => it.secret(name))), before);
    await waitUntil("it is answered over TLS", secured, (answer) => answer.startsWith("200"), podsMs);
    const port = await it.cluster.forwardService("modelmesh-serving", 8008, it.namespace);
    await assert.rejects(request(`https://${port.host}:${port.port}/v2/models/iris-t0001/ready`), /self.signed|unable to verify/);
    await assert.rejects(request(`http://${port.host}:${port.port}/v2/models/iris-t0001/ready`));
    await it.until("isvc", "iris-t0001", "names the new address", (seen) =>
      String(seen.components?.predictor?.restUrl).startsWith("https:"),
    );
  });

  test("a rollback, and an uninstallation that leaves nothing of the release", async () => {
    const back = await it.helm("rollback", "warmpath", "1", "--wait", "--timeout", "10m");
    assert.equal(back.code, 0, back.stderr);
    await it.cluster.kubectl("delete", "servingruntimes,clusterservingruntimes", "--all", "--namespace", it.namespace);
    // The controller takes them away one after the other; without it what is left of them would stay.
    const made = "deployments,services,networkpolicies,poddisruptionbudgets";
    await waitUntil(
      "all that was made for the runtimes is gone",
      () => it.cluster.kubectl("get", made, "--namespace", it.namespace, "--output", "name"),
      (names) => !names.includes("modelmesh-serving-"),
      podsMs,
    );
    const gone = await it.helm("uninstall", "warmpath", "--wait", "--timeout", "10m");
    assert.equal(gone.code, 0, gone.stderr);
    const kinds =
      "deployments,statefulsets,services,networkpolicies,poddisruptionbudgets,roles,rolebindings,serviceaccounts,secrets,configmaps";
    const left = await waitUntil(
      "nothing is left",
      () => it.cluster.kubectl("get", kinds, "--namespace", it.namespace, "--output", "name"),
      (names) =>
        names.split("\n").filter((name) => name !== "" && !/serviceaccount\/default|kube-root-ca/.test(name)).length === 0,
      podsMs,
    );
    assert.doesNotMatch(left, /warmpath/);
  });
});
