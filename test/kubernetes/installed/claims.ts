// Claims where models may not name any: those of the storage settings alone are mounted.
import assert from "node:assert/strict";
import { test } from "node:test";
import { mountedClaims } from "#controller/runtime/mounts.ts";
import { claimName, type Installation } from "../harness/installation.ts";
import { buildInferenceService } from "../harness/objects.ts";
import { podsMs } from "./installed.ts";

export function testClaims(of: () => Installation): void {
  test("a model on a claim that the storage settings do not list is refused in a sentence, and the claim is not mounted", async () => {
    const it = of();
    const model = "iris-t0003";
    await it.addClaim("unlisted");
    const failed = async (storage: Readonly<Record<string, unknown>>): Promise<void> => {
      await it.apply(buildInferenceService(model, it.artefact(model), storage));
      const { modelStatus, conditions } = await it.until(
        "isvc",
        model,
        "has failed",
        (seen) => seen.modelStatus?.states?.activeModelState === "FailedToLoad",
        podsMs,
      );
      assert.equal(modelStatus.lastFailureInfo.reason, "ModelLoadFailed");
      assert.match(
        modelStatus.lastFailureInfo.message,
        /the claim unlisted is not mounted .* the storage settings do not list it/,
      );
      const ready = conditions.find(({ type }: { type: string }) => type === "Ready");
      assert.deepEqual([ready.status, ready.message], ["False", modelStatus.lastFailureInfo.message]);
      await it.remove("isvc", model);
    };
    await failed({ storageUri: it.artefact(model).replace(claimName, "unlisted") });
    const path = it.artefact(model).slice(`pvc://${claimName}/`.length);
    await failed({ storageUri: undefined, storage: { path, parameters: { type: "pvc", name: "unlisted" } } });
    assert.deepEqual(mountedClaims(await it.get("deployment", "modelmesh-serving-onnx")), [claimName]);
  });
}
