// An installation whose registry is an etcd of the operator's own, and how it lives through other certificates and passwords.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gatewayPrefix, podPrefix } from "#platform/registry/records.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { buildInferenceService } from "../harness/objects.ts";
import type { OwnEtcd } from "../harness/ownetcd.ts";
import { type Callers, gateways, runtimePods } from "./callers.ts";
import { isLoaded, podsMs } from "./installed.ts";

/** Three times as long as a pod or a gateway is in the registry without saying so again. */
const presentMs = 15_000;

export function testOwnEtcd(of: () => { readonly callers: Callers; readonly etcd: OwnEtcd }): void {
  test("an etcd of one's own with client certificates and a password, both changed while in use: all go on, and no client notices", async (context) => {
    const { callers, etcd } = of();
    const { it } = callers;
    assert.equal(await it.cluster.kubectl("get", "statefulsets", "--namespace", it.namespace, "--output", "name"), "");
    const readAnew = async (selector: string, container: string): Promise<number> => {
      const which = ["--namespace", it.namespace, "--selector", selector, "--container", container, "--tail=-1"];
      const lines = (await it.cluster.kubectl("logs", ...which)).split("\n");
      return lines.filter((line) => line.includes("certificates for the registry were read anew")).length;
    };
    const { told, summary } = await callers.tellUnderLoad(async () => {
      await it.apply(etcd.nextSecret);
      for (const [selector, container] of [
        [gateways, "gateway"],
        [runtimePods, "warmpath-adapter"],
      ] as const) {
        await waitUntil(
          `each ${container} has the new certificates`,
          () => readAnew(selector, container),
          (count) => count >= 2,
          podsMs,
        );
      }
      await etcd.renew();
      const renewedMs = performance.now();
      assert.ok(await etcd.refusesFirst());
      // The controller registers, the gateways watch, an adapter is asked, the gateway moves the pointer.
      const model = "iris-t0002";
      await it.apply(buildInferenceService(model, it.artefact(model)));
      await it.until("isvc", model, "is loaded", isLoaded, podsMs);
      await it.remove("isvc", model);
      for (const address of await callers.twoGateways()) {
        const made = await waitUntil(
          "a key is made",
          () => callers.manage(address, "operator", "keys", { principal: "later" }),
          ({ status }) => status !== 503,
          podsMs,
        );
        assert.equal(made.status, 201, made.text);
      }
      for (const prefix of [podPrefix, gatewayPrefix]) {
        await waitUntil(
          `two are below ${prefix} long after`,
          async () => ({ count: (await etcd.keys(prefix)).length, sinceMs: performance.now() - renewedMs }),
          ({ count, sinceMs }) => count === 2 && sinceMs > presentMs,
          podsMs,
        );
      }
    });
    context.diagnostic(summary);
    assert.deepEqual([...told.keys()], ["right"], summary);
  });
}
