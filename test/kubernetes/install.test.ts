// The chart's own installation on a real Kubernetes with real pods: what the predecessor's users do by kubectl, and what they
// are told. One cluster for all; each test has models of its own.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Agent, request } from "undici";
import { waitUntil } from "../harness/wait.ts";
import { chartFolder } from "./harness/crds.ts";
import { claimName, type Installation, openInstallation, testValues } from "./harness/installation.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildInferenceService, buildPredictor, onnxRuntime } from "./harness/objects.ts";
import { whyNoCluster } from "./harness/programs.ts";

const skip = whyNoCluster() ?? false;
const podsMs = 240_000;

describe("an installation by helm", { skip }, () => {
  let it: Installation;
  before(async () => {
    it = await openInstallation();
    await it.apply(onnxRuntime());
  });
  after(() => it?.[Symbol.asyncDispose]());

  const isLoaded = (status: KubeValue): boolean => status.modelStatus?.states?.activeModelState === "Loaded";
  const upgrade = async (...values: readonly string[]): Promise<void> => {
    const set = [...testValues, ...values].flatMap((value) => ["--set", value]);
    const { code, stderr } = await it.helm("upgrade", "warmpath", chartFolder, "--wait", "--timeout", "5m", ...set);
    assert.equal(code, 0, stderr);
  };
  const deployment = (): Promise<KubeValue> => it.get("deployment", "modelmesh-serving-onnx");
  const runtimePods = (): Promise<readonly KubeValue[]> => it.pods("warmpath.dev/runtime=onnx");
  const untilNoPods = (): Promise<unknown> =>
    waitUntil(
      "its pods are gone",
      async () => (await runtimePods()).map(({ metadata, status }) => ({ ...metadata, containers: status.containerStatuses })),
      (left) => left.length === 0,
      podsMs,
    );
  /** Right, over both: a client that the machine leaves no time asks again. */
  const answers = async (model: string): Promise<void> => {
    for (const wire of ["rest", "grpc"] as const) {
      const ask = (): Promise<string> =>
        it.asker.ask(model, wire).then(
          () => "right",
          (error: unknown) => String(error),
        );
      const said = await waitUntil(
        `${model} answers over ${wire}`,
        ask,
        (it) => !/DEADLINE_EXCEEDED|[Tt]imeout/.test(it),
        podsMs,
      );
      assert.equal(said, "right");
    }
  };

  test("kubectl apply of a runtime and an InferenceService ends in right answers on 8033 and 8008, kubectl delete in 404", async () => {
    const model = "iris-t0001";
    await it.apply(buildInferenceService(model, it.artefact(model)));
    const status = await it.until("isvc", model, "is loaded", isLoaded, podsMs);
    assert.equal(status.modelStatus.transitionStatus, "UpToDate");
    assert.equal(status.url, "grpc://modelmesh-serving.models:8033");
    assert.equal(status.components.predictor.restUrl, "http://modelmesh-serving.models:8008");
    await answers(model);
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

  test("a claim that is not there fails its own model, with the reason, and no other", async () => {
    await it.apply(buildInferenceService("no-claim", "pvc://not-there/model.onnx"));
    const status = await it.until(
      "isvc",
      "no-claim",
      "has failed",
      (seen) => seen.modelStatus?.states?.activeModelState === "FailedToLoad",
      podsMs,
    );
    assert.equal(status.modelStatus.lastFailureInfo.reason, "ModelLoadFailed");
    await answers("wine-t0001");
    await it.remove("isvc", "no-claim");
  });

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
    const before = (await deployment()).metadata.generation;
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
      async () => ({ ...(await deployment()).status, pods: (await runtimePods()).length }),
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
    const { "scrape-token": token = "" } = await it.secret("warmpath-management-tokens");
    const { "ca.crt": ca = "" } = await it.secret("warmpath-management-tls");
    await using stack = new AsyncDisposableStack();
    const connect = { ca, servername: "warmpath-management" };
    const trusting = stack.adopt(new Agent({ connect }), (agent) => agent.destroy());
    const scrape = async (selector: string, port: number, headers: Readonly<Record<string, string>> = {}): Promise<string> => {
      const [pod] = await it.pods(selector);
      const at = await it.cluster.forward(String(pod?.status.podIP), port);
      const secured = selector === gateway ? { scheme: "https", dispatcher: trusting } : { scheme: "http" };
      const { scheme, ...how } = secured;
      const { statusCode, body } = await request(`${scheme}://${at.host}:${at.port}/metrics`, { ...how, headers });
      return `${statusCode} ${await body.text()}`;
    };
    const gateway = "app.kubernetes.io/component=gateway";
    assert.match(await scrape(gateway, 8080), /^401 /);
    assert.match(await scrape(gateway, 8080, { authorization: `Bearer ${token}` }), /^200 [\s\S]*^warmpath_/m);
    assert.match(await scrape("warmpath.dev/runtime=onnx", 2112), /^200 [\s\S]*^warmpath_pod_ready_copies \d/m);
    assert.match(await scrape("app.kubernetes.io/component=controller", 8082), /^200 [\s\S]*^warmpath_controller_leading 1$/m);
  });

  test("pods end soon after they are told to: those that serve once they are drained, those that only start at once", async (context) => {
    const [pod] = await runtimePods();
    const startMs = performance.now();
    await it.cluster.kubectl("delete", "pod", pod.metadata.name, "--namespace", it.namespace);
    const drainedMs = performance.now() - startMs;
    context.diagnostic(`a pod that served: ${Math.round(drainedMs)} ms`);
    // Killed at the end of its time it would have taken 90 s.
    assert.ok(drainedMs < 60_000, `${drainedMs} ms`);
    const next = await waitUntil(
      "another one is there",
      runtimePods,
      (pods) => pods.some(({ spec, metadata }) => spec.nodeName !== undefined && metadata.name !== pod.metadata.name),
      podsMs,
    );
    const nextMs = performance.now();
    await it.cluster.kubectl("delete", "pod", next[0].metadata.name, "--namespace", it.namespace);
    const endedMs = performance.now() - nextMs;
    context.diagnostic(`a pod that was starting: ${Math.round(endedMs)} ms`);
    assert.ok(endedMs < 60_000, `${endedMs} ms`);
    await answers("wine-t0001");
  });

  test("without models a runtime has no pods after a while, and with the next one it has", async () => {
    await it.cluster.kubectl("delete", "isvc,predictors", "--all", "--namespace", it.namespace);
    await waitUntil("no pods are wanted", deployment, (seen) => seen?.spec.replicas === 0, podsMs);
    await it.until(
      "servingruntime",
      "onnx",
      "says why",
      ({ conditions = [] }) => conditions.find(({ type }: { type: string }) => type === "Available")?.reason === "ScaledToZero",
      podsMs,
    );
    await it.apply(buildInferenceService("iris-t0001", it.artefact("iris-t0001")));
    await it.until("isvc", "iris-t0001", "is loaded", isLoaded, podsMs);
    await answers("iris-t0001");
  });

  test("an upgrade lets idle runtimes sleep; the next request waits for a pod and is answered", async (context) => {
    await upgrade("sleep.enabled=true", "sleep.afterSeconds=5");
    await waitUntil("it sleeps", deployment, (seen) => seen?.spec.replicas === 0, podsMs);
    await untilNoPods();
    const startMs = performance.now();
    const answer = await it.inferIris("iris-t0001", podsMs);
    assert.equal(answer.status, 200, answer.text);
    context.diagnostic(`from no pod to the answer: ${Math.round(performance.now() - startMs)} ms`);
  });

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
    await upgrade("tls.plainText=refuse");
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
    const back = await it.helm("rollback", "warmpath", "1", "--wait", "--timeout", "5m");
    assert.equal(back.code, 0, back.stderr);
    await it.cluster.kubectl("delete", "servingruntimes", "--all", "--namespace", it.namespace);
    await waitUntil("the runtime's pods are gone", deployment, (seen) => seen === undefined, podsMs);
    const gone = await it.helm("uninstall", "warmpath", "--wait", "--timeout", "5m");
    assert.equal(gone.code, 0, gone.stderr);
    const kinds =
      "deployments,statefulsets,services,networkpolicies,poddisruptionbudgets,roles,rolebindings,serviceaccounts,secrets,configmaps";
    const left = await waitUntil(
      "nothing is left",
      () => it.cluster.kubectl("get", kinds, "--namespace", it.namespace, "--output", "name"),
      (names) =>
        names.split("\n").filter((name) => name !== "" && !/serviceaccount\/default|kube-root-ca/.test(name)).length === 0,
      60_000,
    );
    assert.doesNotMatch(left, /warmpath/);
  });
});
