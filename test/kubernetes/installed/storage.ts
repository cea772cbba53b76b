// Storage settings and claims of an installation, as running pods find them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { claimName } from "../harness/installation.ts";
import { buildInferenceService, buildPredictor } from "../harness/objects.ts";
import { type Installed, isLoaded, podsMs } from "./installed.ts";

export function testStorage(of: () => Installed): void {
  test("an entry of the storage settings that is written later is found by the pods that are there", async () => {
    const { it, runtimePods, answers } = of();
    const podNames = async (): Promise<readonly string[]> => (await runtimePods()).map(({ metadata }) => String(metadata.name));
    const model = "iris-t0003";
    await it.apply(buildPredictor(model, { storage: { key: "later", path: `models/iris/${model}.onnx` } }));
    const failed = await it.until("predictor", model, "has failed", (seen) => seen.activeModelState === "FailedToLoad", podsMs);
    assert.match(failed.lastFailureInfo.message, /later/);
    const before = await podNames();
    const entry = JSON.stringify({ type: "pvc", name: claimName });
    await it.apply(
      JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name: "storage-config" }, stringData: { later: entry } }),
    );
    // A load that has failed is tried again after pauses that grow.
    await it.until("predictor", model, "is loaded", (seen) => seen.activeModelState === "Loaded", podsMs);
    await answers(model);
    assert.deepEqual(await podNames(), before);
    await it.remove("predictor", model);
    await it.remove("secret", "storage-config");
  });

  test("a claim that is not there fails its own model, with the reason, and no other", async () => {
    const { it, answers } = of();
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

  test("a claim that a model names later is mounted in new pods, and the others stay", async () => {
    const { it, answers } = of();
    await it.addClaim("second");
    const model = "iris-t0003";
    await it.apply(buildInferenceService(model, it.artefact(model).replace(claimName, "second")));
    await it.until("isvc", model, "is loaded", isLoaded, podsMs);
    await answers(model);
    await answers("wine-t0001");
    await it.remove("isvc", model);
  });
}
