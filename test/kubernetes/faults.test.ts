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
    const { client, registry } = parts;
    return {
      ...parts,
      client: {
        ...client,
        apply: guard(client.apply),
        mergeStatus: guard(client.mergeStatus),
        create: guard(client.create),
        replace: guard(client.replace),
        delete: guard(client.delete),
      },
      registry: {
        get: (key) => registry.get(key),
        list: (prefix, about) => registry.list(prefix, about),
        watch: (prefix, from, signal) => registry.watch(prefix, from, signal),
        openLease: (ttlMs) => registry.openLease(ttlMs),
        put: guard((key, value, about) => registry.put(key, value, about)),
        putMany: guard((entries) => registry.putMany(entries)),
        delete: guard((key, about) => registry.delete(key, about)),
        // Whoever opened it closes it.
        [Symbol.asyncDispose]: () => Promise.resolve(),
      },
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
    await using controller = await openController({ ...options(), change: dyingAt(at, when, () => (died = true)) });
    const { log } = controller;
    await waitUntil("it dies or is done", async () => died || (await settled()), Boolean, waitMs).catch((cause: unknown) => {
      throw new Error(`${when} write ${at}: ${String(cause)}\n${JSON.stringify(log.lines.slice(-20))}`, { cause });
    });
    return died;
  }
  const isWanted = async (): Promise<boolean> =>
    (await plane.kubectl.get("deployment", "modelmesh-serving-onnx"))?.spec.replicas === 2;

  for (const when of ["before", "after"] as const) {
    test(`${when} any of its writes: the next one ends where it would have ended`, async (context) => {
      const deaths = { made: 0, deleted: 0 };
      for (let at = 1, died = true; died; at++) {
        const name = `killed-${when}-${at}`;
        const isLoaded = async (): Promise<boolean> => (await status(name)).modelStatus?.states?.activeModelState === "Loaded";
        const isGone = async (): Promise<boolean> => (await fleet.manage("GET", `/api/v1/models/${name}`)).status === 404;
        await plane.kubectl.apply(onnxRuntime());
        await plane.kubectl.apply(buildInferenceService(name, artefact("iris-t0001")));
        const diedMaking = await liveUntilDeath(at, when, async () => (await isLoaded()) && (await isWanted()));
        {
          await using _next = await openController(options());
          await waitUntil("loaded all the same", isLoaded, Boolean, waitMs);
          await waitUntil("its pods are wanted", isWanted, Boolean, waitMs);
        }
        // Deleted while no controller runs.
        await plane.kubectl("delete", "inferenceservice", name);
        const diedDeleting = await liveUntilDeath(at, when, isGone);
        if (!(await isGone())) {
          await using _last = await openController(options());
          await waitUntil("gone", isGone, Boolean, waitMs);
        }
        deaths.made += diedMaking ? 1 : 0;
        deaths.deleted += diedDeleting ? 1 : 0;
        died = diedMaking || diedDeleting;
      }
      context.diagnostic(`${deaths.made} deaths while it was made, ${deaths.deleted} while it was deleted`);
      // Its record, its status, the runtime's objects.
      assert.ok(deaths.made >= 3 && deaths.deleted >= 1, JSON.stringify(deaths));
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
