// What a runtime is made into, and what its status says. A real API server; no node, so that no pod runs.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { waitUntil } from "../harness/wait.ts";
import { buildInferenceService, onnxRuntime } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";
import { openServed, type Served, waitMs } from "./harness/served.ts";

const skip = whyNoControlPlane() ?? false;

describe("runtimes", { skip }, () => {
  let it: Served;
  before(async () => {
    it = await openServed();
  });
  after(() => it?.[Symbol.asyncDispose]());

  test("a runtime gets its Deployment, Service, NetworkPolicy and budget; its status tells of them", async () => {
    // A runtime that no model could use has no pods.
    await it.plane.kubectl.apply(buildInferenceService("user", it.artefact("iris-t0001")));
    const deployment = await waitUntil(
      "the Deployment",
      () => it.plane.kubectl.get("deployment", "modelmesh-serving-onnx"),
      (seen) => seen?.spec.replicas === 2,
      waitMs,
    );
    const pod = deployment.spec.template.spec;
    assert.deepEqual(
      pod.containers.map(({ name }: { name: string }) => name),
      ["onnx", "warmpath-adapter"],
    );
    assert.equal(pod.securityContext.runAsNonRoot, true);
    assert.equal(deployment.spec.template.metadata.labels["modelmesh-service"], "modelmesh-serving");
    for (const kind of ["service", "networkpolicy", "poddisruptionbudget"])
      assert.ok(await it.plane.kubectl.get(kind, "modelmesh-serving-onnx"), kind);
    const status = await it.until("servingruntime", "onnx", "says so", (seen) => seen.deployment === "modelmesh-serving-onnx");
    const conditions = Object.fromEntries(status.conditions.map((each: { type: string }) => [each.type, each]));
    assert.match(conditions["Valid"].message, /listens on 0.0.0.0 instead of loopback/);
    assert.equal(conditions["Available"].status, "False");
    // What another hand changes is changed back.
    await it.plane.kubectl("scale", "deployment", "modelmesh-serving-onnx", "--replicas=7");
    await waitUntil(
      "it has its own number again",
      () => it.plane.kubectl.get("deployment", "modelmesh-serving-onnx"),
      (seen) => seen?.spec.replicas === 2,
      waitMs,
    );
  });

  test("a runtime that is disabled, for single models, or cannot run has no pods, and says why", async () => {
    const cases: readonly (readonly [string, Readonly<Record<string, unknown>>, string, RegExp])[] = [
      ["off", { disabled: true }, "Disabled", /disabled/],
      ["single", { multiModel: false }, "NotMultiModel", /one model at a time/],
      ["socket", { grpcDataEndpoint: "unix:/models/run.sock" }, "InvalidRuntime", /Valid/],
    ];
    for (const [name, spec, reason, says] of cases) {
      await it.plane.kubectl.apply(onnxRuntime(name, spec));
      const status = await it.until("servingruntime", name, "says why", (seen) => seen.conditions !== undefined);
      const available = status.conditions.find(({ type }: { type: string }) => type === "Available");
      assert.equal(available.reason, reason);
      assert.match(available.message, says);
      assert.equal(await it.plane.kubectl.get("deployment", `modelmesh-serving-${name}`), undefined);
      await it.plane.kubectl("delete", "servingruntime", name);
    }
  });

  test("a runtime's HPA follows its annotations", async () => {
    const notes = { "serving.kserve.io/autoscalerClass": "hpa" };
    const used = JSON.parse(buildInferenceService("scaled", it.artefact("iris-t0001"), { runtime: "scaling" }));
    const format = { supportedModelFormats: [{ name: "onnx", autoSelect: false }] };
    await it.plane.kubectl.apply(onnxRuntime("scaling", format, notes));
    assert.equal(await it.plane.kubectl.get("hpa", "modelmesh-serving-scaling"), undefined);
    await it.plane.kubectl.apply(JSON.stringify(used));
    const hpa = await waitUntil(
      "the HPA",
      () => it.plane.kubectl.get("hpa", "modelmesh-serving-scaling"),
      (seen) => seen !== undefined,
      waitMs,
    );
    assert.deepEqual([hpa.spec.minReplicas, hpa.spec.maxReplicas], [1, 1]);
    assert.equal(hpa.spec.metrics[0].resource.target.averageUtilization, 80);
    await it.plane.kubectl.apply(
      onnxRuntime("scaling", format, {
        ...notes,
        "serving.kserve.io/min-scale": "2",
        "serving.kserve.io/max-scale": "4",
        "serving.kserve.io/metrics": "memory",
        "serving.kserve.io/targetUtilizationPercentage": "90",
      }),
    );
    await waitUntil(
      "the HPA is another",
      () => it.plane.kubectl.get("hpa", "modelmesh-serving-scaling"),
      (seen) => seen?.spec.minReplicas === 2 && seen.spec.maxReplicas === 4 && seen.spec.metrics[0].resource.name === "memory",
      waitMs,
    );
    await it.plane.kubectl.apply(onnxRuntime("scaling", format));
    await waitUntil(
      "the HPA is gone",
      () => it.plane.kubectl.get("hpa", "modelmesh-serving-scaling"),
      (seen) => seen === undefined,
      waitMs,
    );
    await it.plane.kubectl("delete", "isvc", "scaled");
    await it.plane.kubectl("delete", "servingruntime", "scaling");
    await waitUntil(
      "its pods are gone",
      () => it.plane.kubectl.get("deployment", "modelmesh-serving-scaling"),
      (seen) => seen === undefined,
      waitMs,
    );
  });

  const unselected = { supportedModelFormats: [{ name: "onnx", autoSelect: false }] };
  const external = { "serving.kserve.io/autoscalerClass": "external" };
  const replicasOf = async (at: string): Promise<number | undefined> =>
    (await it.plane.kubectl.get("deployment", at))?.spec.replicas;

  test("an autoscaler that takes over finds the number of pods as it was", async () => {
    const at = "modelmesh-serving-handed";
    await it.plane.kubectl.apply(onnxRuntime("handed", { ...unselected, replicas: 3 }));
    await it.plane.kubectl.apply(buildInferenceService("handed", it.artefact("iris-t0001"), { runtime: "handed" }));
    await waitUntil(
      "three pods",
      () => replicasOf(at),
      (count) => count === 3,
      waitMs,
    );
    await it.plane.kubectl.apply(onnxRuntime("handed", unselected, { "serving.kserve.io/autoscalerClass": "hpa" }));
    await waitUntil(
      "the HPA",
      () => it.plane.kubectl.get("hpa", at),
      (seen) => seen !== undefined,
      waitMs,
    );
    assert.equal(await replicasOf(at), 3);
    await it.plane.kubectl.apply(onnxRuntime("handed", unselected, external));
    await waitUntil(
      "the HPA is gone",
      () => it.plane.kubectl.get("hpa", at),
      (seen) => seen === undefined,
      waitMs,
    );
    assert.equal(await replicasOf(at), 3);
    await it.plane.kubectl("delete", "isvc", "handed");
    await it.plane.kubectl("delete", "servingruntime", "handed");
  });

  test("somebody else's autoscaler has the say, down to zero, until something waits for a pod", async () => {
    const at = "modelmesh-serving-foreign";
    const template = async (): Promise<string> => JSON.stringify((await it.plane.kubectl.get("deployment", at))?.spec.template);
    await it.plane.kubectl.apply(onnxRuntime("foreign", unselected, external));
    await waitUntil(
      "it begins with a pod",
      () => replicasOf(at),
      (count) => count === 1,
      waitMs,
    );
    await it.plane.kubectl("scale", "deployment", at, "--replicas=5");
    const before = await template();
    await it.plane.kubectl.apply(onnxRuntime("foreign", { ...unselected, nodeSelector: { disk: "fast" } }, external));
    await waitUntil("the pods are others", template, (now) => now !== before, waitMs);
    assert.equal(await replicasOf(at), 5);
    await it.until("servingruntime", "foreign", "tells of its pods", ({ pods }) => pods === 5);
    await it.plane.kubectl("scale", "deployment", at, "--replicas=0");
    await it.until("servingruntime", "foreign", "has none", ({ pods }) => pods === 0);
    assert.equal(await replicasOf(at), 0);
    await it.plane.kubectl.apply(buildInferenceService("waiting", it.artefact("iris-t0001"), { runtime: "foreign" }));
    await waitUntil(
      "its load has pods made",
      () => replicasOf(at),
      (count) => count === 2,
      waitMs,
    );
    await it.plane.kubectl("delete", "isvc", "waiting");
    await it.plane.kubectl("delete", "servingruntime", "foreign");
  });
});
