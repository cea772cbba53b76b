// How many pods runtimes have on a real node: by signals of the gateways, none without models or requests, and again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { waitUntil } from "#test/harness/wait.ts";
import { serveExternalMetrics } from "../harness/externalmetrics.ts";
import type { KubeValue } from "../harness/kubectl.ts";
import { buildInferenceService, onnxRuntime } from "../harness/objects.ts";
import { type Installed, isLoaded, podsMs } from "./installed.ts";

/** Runtimes that models name. */
const unselected = { supportedModelFormats: [{ name: "onnx", version: "1" }] };
/** Whose pods never start. */
const nowhere = { nodeSelector: { "warmpath.test/nowhere": "yes" } };

const isReady = ({ type, status }: KubeValue): boolean => type === "Ready" && status === "True";

export function testScaling(of: () => Installed): void {
  test("a runtime whose pods are full of models in use gets another pod, and gives it back when they are not", async () => {
    const { it, deployment } = of();
    // Room for some twenty of these models.
    const builtInAdapter = { serverType: "onnx", memBufferBytes: (192 - 2) << 20 };
    await it.apply(onnxRuntime("busy", { ...unselected, builtInAdapter }));
    const names = Array.from({ length: 40 }, (_, at) => `busy-${at}`);
    const artefact = it.artefact("iris-t0001");
    const items = names.map((name): unknown => JSON.parse(buildInferenceService(name, artefact, { runtime: "busy" })));
    await it.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
    // Not that one is loaded: it may have made room for another again before anybody looks.
    await waitUntil(
      "all are known, and there is a pod for them",
      async () => {
        const listed = await it.cluster.kubectl("get", "isvc", "--namespace", it.namespace, "--output", "json");
        const known = (JSON.parse(listed) as { items: KubeValue[] }).items.filter(
          ({ metadata, status }) => names.includes(metadata.name) && (status?.conditions ?? []).some(isReady),
        );
        return { known: known.length, ready: (await deployment("busy"))?.status.readyReplicas };
      },
      ({ known, ready }) => known === names.length && ready >= 1,
      podsMs,
    );
    const refused: string[] = [];
    const stop = new AbortController();
    // Several at once: what was last used over a minute ago is not in use, however slow the machine is.
    const askers = 4;
    const asking = Array.from({ length: askers }, async (_, first) => {
      for (let at = first; !stop.signal.aborted; at += askers) {
        const name = names[at % names.length] ?? "";
        const { status, text } = await it.inferIris(name, podsMs);
        if (status !== 200) refused.push(`${name}: ${status} ${text}`);
      }
    });
    try {
      await waitUntil(
        "it has two pods",
        () => deployment("busy"),
        (seen) => seen?.status.readyReplicas === 2,
        podsMs,
      );
    } finally {
      stop.abort();
      await Promise.all(asking);
    }
    assert.deepEqual(refused, []);
    await it.cluster.kubectl("delete", "isvc", ...names.slice(4), "--namespace", it.namespace);
    await waitUntil(
      "one is taken away",
      () => deployment("busy"),
      (seen) => seen?.spec.replicas === 1,
      podsMs,
    );
    for (const name of names.slice(0, 4)) {
      const { status, text } = await it.inferIris(name, podsMs);
      assert.equal(status, 200, text);
    }
    await it.cluster.kubectl("delete", "isvc", ...names.slice(0, 4), "--namespace", it.namespace);
    await it.remove("servingruntime", "busy");
  });

  test("with an HPA the cluster's own autoscaler has the say while models use the runtime, and without them it has no pods", async () => {
    const { it, deployment } = of();
    const apply = async (least: number): Promise<void> => {
      const notes = { autoscalerClass: "hpa", "min-scale": `${least}`, "max-scale": "4" };
      const annotations = Object.fromEntries(Object.entries(notes).map(([key, value]) => [`serving.kserve.io/${key}`, value]));
      await it.apply(onnxRuntime("scaled", { ...unselected, ...nowhere }, annotations));
    };
    const hasPods = async (count: number): Promise<void> => {
      await waitUntil(
        `it is to have ${count} pods`,
        () => deployment("scaled"),
        (seen) => seen?.spec.replicas === count,
        podsMs,
      );
    };
    await apply(2);
    await it.apply(buildInferenceService("scaled", it.artefact("iris-t0001"), { runtime: "scaled" }));
    // The first number is the installation's, which is 1.
    await hasPods(2);
    await apply(3);
    await hasPods(3);
    await it.remove("isvc", "scaled");
    await hasPods(0);
    const autoscaler = (): Promise<KubeValue> => it.get("hpa", "modelmesh-serving-scaled");
    await waitUntil("its autoscaler is gone", autoscaler, (seen) => seen === undefined, podsMs);
    await it.remove("servingruntime", "scaled");
  });

  test("an HPA by a metric of the gateways has pods made for requests that wait, and taken away when none does", async () => {
    const { it, deployment } = of();
    await using _serving = await serveExternalMetrics(it);
    const name = "watched";
    const external = { "serving.kserve.io/autoscalerClass": "external" };
    await it.apply(onnxRuntime(name, { ...unselected, ...nowhere }, external));
    await it.apply(buildInferenceService(name, it.artefact("iris-t0001"), { runtime: name }));
    const metric = "warmpath_parked_requests";
    const target = { type: "AverageValue", averageValue: "2" };
    await it.apply(
      JSON.stringify({
        apiVersion: "autoscaling/v2",
        kind: "HorizontalPodAutoscaler",
        metadata: { name },
        spec: {
          scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: `modelmesh-serving-${name}` },
          minReplicas: 1,
          maxReplicas: 4,
          metrics: [{ type: "External", external: { metric: { name: metric }, target } }],
          behavior: { scaleDown: { stabilizationWindowSeconds: 0 } },
        },
      }),
    );
    const hasPods = (what: string, holds: (replicas: number) => boolean): Promise<unknown> =>
      waitUntil(
        `it is to have ${what}`,
        async () => [(await deployment(name))?.spec.replicas, (await it.get("hpa", name))?.status],
        ([replicas]) => holds(replicas),
        podsMs,
      );
    // A load of the controller's waits as well.
    await hasPods("a pod", (replicas) => replicas === 1);
    const stop = new AbortController();
    const waiting = Array.from({ length: 5 }, () => it.inferIris(name, podsMs, stop.signal).catch(() => undefined));
    await hasPods("one for each two that wait", (replicas) => replicas >= 3);
    stop.abort();
    await Promise.all(waiting);
    await hasPods("a pod again", (replicas) => replicas === 1);
    await it.remove("hpa", name);
    await it.remove("isvc", name);
    await it.remove("servingruntime", name);
  });

  test("without models a runtime has no pods after a while, and with the next one it has", async () => {
    const { it, deployment, answers } = of();
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
    const { it, upgrade, deployment, untilNoPods } = of();
    await upgrade("sleep.enabled=true", "sleep.afterSeconds=5");
    await waitUntil("it sleeps", deployment, (seen) => seen?.spec.replicas === 0, podsMs);
    await untilNoPods();
    const startMs = performance.now();
    const answer = await it.inferIris("iris-t0001", podsMs);
    assert.equal(answer.status, 200, answer.text);
    context.diagnostic(`from no pod to the answer: ${Math.round(performance.now() - startMs)} ms`);
  });

  test("a request whose model is deleted while it waits for pods that never come is told so", async () => {
    const { it, scrapeGateway } = of();
    await it.apply(onnxRuntime("nowhere", { ...unselected, ...nowhere }));
    await it.apply(buildInferenceService("iris-t0004", it.artefact("iris-t0004"), { runtime: "nowhere" }));
    const parked = (count: number) => (text: string) => Number(/^warmpath_parked_requests (\d+)$/m.exec(text)?.[1]) === count;
    // The controller's own load.
    await waitUntil("a load waits", scrapeGateway, parked(1), podsMs);
    const answer = it.inferIris("iris-t0004", podsMs);
    await waitUntil("the request waits beside it", scrapeGateway, parked(2), podsMs);
    await it.remove("isvc", "iris-t0004");
    const { status, text } = await answer;
    assert.deepEqual([status, /unregistered meanwhile/.test(text)], [404, true], text);
    await it.remove("servingruntime", "nowhere");
  });

  test("a runtime that sleeps gets no pods when its last model is deleted", async () => {
    const { it, deployment } = of();
    await waitUntil("it sleeps", deployment, (seen) => seen?.spec.replicas === 0, podsMs);
    const selector = "reason=ScalingReplicaSet,involvedObject.name=modelmesh-serving-onnx";
    const timesUp = async (): Promise<number> => {
      const events = ["get", "events", "--namespace", it.namespace, "--field-selector", selector, "--output", "json"];
      const { items } = JSON.parse(await it.cluster.kubectl(...events)) as { items: { message: string; count?: number }[] };
      return items.reduce((sum, { message, count = 1 }) => sum + (message.startsWith("Scaled up") ? count : 0), 0);
    };
    const before = await timesUp();
    assert.ok(before > 0);
    await it.remove("isvc", "iris-t0001");
    const why = ({ conditions = [] }: KubeValue): unknown =>
      conditions.find(({ type }: { type: string }) => type === "Available")?.message;
    await it.until("servingruntime", "onnx", "knows", (status) => why(status) === "no model can use it", podsMs);
    assert.equal(await timesUp(), before);
    await it.apply(buildInferenceService("iris-t0001", it.artefact("iris-t0001")));
    await it.until("isvc", "iris-t0001", "is loaded", isLoaded, podsMs);
  });
}
