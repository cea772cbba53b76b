// Pods that are evicted from a node, as its drain does it: what the budgets refuse, and what clients notice.
import assert from "node:assert/strict";
import { test } from "node:test";
import { waitUntil } from "#test/harness/wait.ts";
import { type Callers, gateways, runtimePods } from "./callers.ts";
import { podsMs } from "./installed.ts";

export function testEviction(of: () => Callers): void {
  test("a drain of the node: of two gateways and two pods the last one available is not evicted before another is, and no client that keeps its connection notices", async (context) => {
    const callers = of();
    const { told, summary } = await callers.tellUnderLoad(async () => {
      for (const selector of [gateways, runtimePods]) {
        await untilOneMayGo(callers, selector === gateways ? "warmpath-gateway" : "modelmesh-serving-onnx");
        const gone = await callers.namesOf(selector);
        assert.equal(gone.length, 2);
        const said = await Promise.all(gone.map((pod) => evict(callers, pod)));
        assert.deepEqual(said.toSorted(), ["evicted", "the budget refuses"], selector);
        // The one that is left goes once another serves: its budget alone says when.
        const last = gone[said.indexOf("the budget refuses")] ?? "";
        await waitUntil(
          `${last} is evicted`,
          () => evict(callers, last),
          (answer) => answer === "evicted",
          podsMs,
        );
        await callers.replaced(selector, gone);
      }
    });
    context.diagnostic(summary);
    assert.deepEqual([...told.keys()], ["right"], summary);
  });
}

/** Until the cluster has counted what the budget is about. */
async function untilOneMayGo({ it }: Callers, budget: string): Promise<void> {
  await waitUntil(
    `the budget ${budget} lets one of two go`,
    async () => (await it.get("poddisruptionbudget", budget))?.status,
    (status) => status?.currentHealthy === 2 && status.expectedPods === 2 && status.disruptionsAllowed === 1,
    podsMs,
  );
}

/** What the API server says to an Eviction (policy/v1). */
async function evict({ it }: Callers, pod: string): Promise<string> {
  const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: pod, namespace: it.namespace } };
  const path = `/api/v1/namespaces/${it.namespace}/pods/${pod}/eviction`;
  const { code, stderr } = await it.cluster.kubectl.run(["create", "--raw", path, "--filename", "-"], JSON.stringify(eviction));
  if (code === 0) return "evicted";
  return /TooManyRequests.*disruption budget/.test(stderr) ? "the budget refuses" : stderr;
}
