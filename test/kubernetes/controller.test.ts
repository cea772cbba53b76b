// The controller over a real API server and a real fleet of this machine: what the predecessor's objects ask for is served,
// and their status says so in the predecessor's words.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";
import { openController, type TestController } from "./harness/controller.ts";
import { type ControlPlane, openControlPlane } from "./harness/controlplane.ts";
import { applyCrds } from "./harness/crds.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildInferenceService, onnxRuntime } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const waitMs = 60_000;

describe("the controller", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let plane: ControlPlane;
  let fleet: TestFleet;
  let controller: TestController;
  let artefact: (model: string) => string;

  before(async () => {
    plane = stack.use(await openControlPlane());
    await applyCrds(plane.kubectl);
    fleet = stack.use(await openFleet({ pods: 2 }));
    await fleet.whenServing();
    artefact = (model) => pathToFileURL(join(fleet.libraryFolder, `models/${model.split("-")[0]}/${model}.onnx`)).href;
    controller = stack.use(
      await openController({ kubeconfig: plane.kubeconfig, registryFile: fleet.registryFile, gatewayUrl: fleet.adminUrl }),
    );
    await controller.synced;
    await plane.kubectl.apply(onnxRuntime());
  });
  after(() => stack.disposeAsync());

  const status = (name: string, kind = "inferenceservice"): Promise<KubeValue> =>
    plane.kubectl.get(kind, name).then((found) => found?.status ?? {});

  test("an InferenceService is loaded and answers, and is gone with its object", async () => {
    await plane.kubectl.apply(buildInferenceService("first", artefact("iris-t0001")));
    const seen = await waitUntil(
      "loaded",
      () => status("first"),
      (it) => it.modelStatus?.states?.activeModelState === "Loaded",
      waitMs,
    );
    assert.equal(seen.modelStatus.transitionStatus, "UpToDate");
    await plane.kubectl("delete", "inferenceservice", "first");
    await waitUntil(
      "unregistered",
      () => fleet.manage("GET", "/api/v1/models/first"),
      ({ status }) => status === 404,
      waitMs,
    );
  });
});
