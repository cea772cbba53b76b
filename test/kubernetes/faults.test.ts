// The controller is killed at every write that a life of an object takes, before and after it, and a new one makes good; others
// write all the time meanwhile.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { ControllerParts } from "#controller/controller.ts";
import { sleep } from "#platform/clock.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";
import { openController } from "./harness/controller.ts";
import { type ControlPlane, openControlPlane } from "./harness/controlplane.ts";
import { applyCrds } from "./harness/crds.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildInferenceService, onnxRuntime } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const waitMs = 60_000;
const writers = ["apply", "mergeStatus", "create", "replace", "delete"] as const;

/** Ends the controller at its `at`-th write: the write itself is still made, or not any more. */
function dyingAt(at: number, when: "before" | "after", onDeath: () => void): (parts: ControllerParts) => ControllerParts {
  let writes = 0;
  const dies = (): boolean => {
    writes += 1;
    return writes >= at;
  };
  const guard =
    <A extends readonly unknown[], R>(call: (...args: A) => Promise<R>): ((...args: A) => Promise<R>) =>
    async (...args) => {
      if (!dies()) return await call(...args);
      if (when === "after" && writes === at) await call(...args);
      onDeath();
      // Nothing that follows in this life happens.
      throw new Error("this controller is dead");
    };
  return (parts) => {
    const client = Object.create(parts.client) as Record<string, unknown>;
    for (const name of writers)
      client[name] = guard((parts.client[name] as (...args: unknown[]) => Promise<unknown>).bind(parts.client));
    const registry = Object.create(parts.registry) as Record<string, unknown>;
    registry["put"] = guard(parts.registry.put.bind(parts.registry));
    registry["delete"] = guard(parts.registry.delete.bind(parts.registry));
    return {
      ...parts,
      client: client as unknown as ControllerParts["client"],
      registry: registry as unknown as ControllerParts["registry"],
    };
  };
}

describe("a controller that is killed", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let plane: ControlPlane;
  let fleet: TestFleet;

  before(async () => {
    plane = stack.use(await openControlPlane());
    await applyCrds(plane.kubectl);
    fleet = stack.use(await openFleet({ pods: 1 }));
    await fleet.whenServing();
  });
  after(() => stack.disposeAsync());

  const options = (): { kubeconfig: string; registryFile: string; gatewayUrl: string } => ({
    kubeconfig: plane.kubeconfig,
    registryFile: fleet.registryFile,
    gatewayUrl: fleet.adminUrl,
  });
  const artefact = (model: string): string =>
    pathToFileURL(join(fleet.libraryFolder, `models/${model.split("-")[0]}/${model}.onnx`)).href;
  const status = async (name: string): Promise<KubeValue> => (await plane.kubectl.get("inferenceservice", name))?.status ?? {};

  /** Lets a controller that dies at this write work until it does, or until there was no such write. */
  async function liveUntilDeath(at: number, when: "before" | "after", settled: () => Promise<boolean>): Promise<boolean> {
    let died = false;
    const controller = await openController({ ...options(), change: dyingAt(at, when, () => (died = true)) });
    try {
      await waitUntil("it dies or is done", async () => died || (await settled()), Boolean, waitMs);
    } finally {
      await controller.stop();
      await controller[Symbol.asyncDispose]();
    }
    return died;
  }

  for (const when of ["before", "after"] as const) {
    test(`${when} any of its writes: the next one ends where it would have ended`, async () => {
      let lives = 0;
      for (let at = 1; ; at++) {
        const name = `killed-${when}-${at}`;
        await plane.kubectl.apply(onnxRuntime());
        await plane.kubectl.apply(buildInferenceService(name, artefact("iris-t0001")));
        const isLoaded = async (): Promise<boolean> => (await status(name)).modelStatus?.states?.activeModelState === "Loaded";
        const hasDeployment = async (): Promise<boolean> =>
          (await plane.kubectl.get("deployment", "modelmesh-serving-onnx")) !== undefined;
        const died = await liveUntilDeath(at, when, async () => (await isLoaded()) && (await hasDeployment()));
        {
          await using _next = await openController(options());
          await waitUntil("loaded all the same", isLoaded, Boolean, waitMs);
          await waitUntil(
            "its pods are wanted",
            () => plane.kubectl.get("deployment", "modelmesh-serving-onnx"),
            (it) => it?.spec.replicas === 2,
            waitMs,
          );
        }
        // Deleted while no controller runs, and while one dies at its first write.
        await plane.kubectl("delete", "inferenceservice", name);
        await liveUntilDeath(1, when, async () => (await fleet.manage("GET", `/api/v1/models/${name}`)).status === 404);
        {
          await using _last = await openController(options());
          await waitUntil(
            "gone",
            () => fleet.manage("GET", `/api/v1/models/${name}`),
            ({ status }) => status === 404,
            waitMs,
          );
        }
        lives += 1;
        if (!died) break;
      }
      assert.ok(lives >= 3, `${lives} lives`);
    });
  }

  test("ends where it should while others write to its objects all the time", async () => {
    await using _controller = await openController(options());
    const name = "stormy";
    await plane.kubectl.apply(buildInferenceService(name, artefact("iris-t0001")));
    const calm = new AbortController();
    const storm = (async (): Promise<void> => {
      for (let at = 0; !calm.signal.aborted; at++) {
        await plane.kubectl.run(["annotate", "inferenceservice", name, `test/storm=${at}`, "--overwrite"]);
        await plane.kubectl.run(["scale", "deployment", "modelmesh-serving-onnx", `--replicas=${at % 2}`]);
        await sleep(20);
      }
    })();
    try {
      await waitUntil(
        "loaded in the storm",
        () => status(name),
        (it) => it.modelStatus?.states?.activeModelState === "Loaded",
        waitMs,
      );
    } finally {
      calm.abort();
      await storm;
    }
    await waitUntil(
      "what others changed is changed back",
      () => plane.kubectl.get("deployment", "modelmesh-serving-onnx"),
      (it) => it?.spec.replicas === 2,
      waitMs,
    );
    await plane.kubectl("delete", "inferenceservice", name);
  });
});
