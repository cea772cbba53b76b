// Owns a pod whose loads take exactly as long as they are told to: a real adapter, with its queue, its room and its Link,
// over a model server that does nothing but wait.
import { openAdapter } from "#adapters/adapter.ts";
import type { Driver, DriverListener, HeldModel } from "#adapters/drivers/driver.ts";
import type { Puller } from "#adapters/pull/puller.ts";
import { sleep, untilAborted } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { runPresence } from "#platform/registry/presence.ts";
import type { Registry } from "#platform/registry/registry.ts";
import type { TimedPodPlan } from "./plan.ts";

export type TimedPodOptions = Omit<TimedPodPlan, "registryFile" | "address">;

export interface TimedPod extends AsyncDisposable {
  readonly loads: number;
}

const artefactBytes = 1_024;
/** What is predicted for such an artefact before anything is known, so that predictions are right from the start. */
const copyBytes = artefactBytes * 4 + 128 * 1_024;

export async function openTimedPod(options: TimedPodOptions, registry: Registry, address: string): Promise<TimedPod> {
  const { podId, room, loadConcurrency } = options;
  await using stack = new AsyncDisposableStack();
  const driver = createTimedDriver(options);
  const adapter = stack.use(
    await openAdapter({
      pod: { podId, runtime: "onnx", formats: ["onnx"], restAddress: address, grpcAddress: address, labels: {} },
      holding: { capacityBytes: room * copyBytes, loadConcurrency, unloadConcurrency: 16 },
      driver,
      puller,
      link: { host: "127.0.0.1", port: 0 },
      log: silentLog,
    }),
  );
  const stop = new AbortController();
  const { incarnation, linkAddress } = adapter;
  const presence = { podId, incarnation, linkAddress, runtime: "onnx" };
  const announced = runPresence(registry, presence, { ttlMs: 10_000, log: silentLog }, stop.signal);
  stack.defer(async () => {
    stop.abort();
    await announced;
  });
  const owned = stack.move();
  return {
    get loads() {
      return driver.loads;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const puller: Puller = {
  probe: async () => ({ kind: "ok", sizeBytes: artefactBytes }),
  pull: async () => ({ kind: "ok", path: "/nowhere", sizeBytes: artefactBytes, release: async () => undefined }),
};

function createTimedDriver({ loadMs, held: names }: TimedPodOptions): Driver & { readonly loads: number } {
  const held = new Map<string, HeldModel>(
    names.map((serverName) => [serverName, { serverName, revision: "r1", sizeBytes: copyBytes }]),
  );
  let loads = 0;
  return {
    keepsArtefact: false,
    get loads() {
      return loads;
    },
    async start(listener: DriverListener, signal: AbortSignal) {
      listener.onUp([...held.values()]);
      await untilAborted(signal);
    },
    async load({ serverName, revision, signal }) {
      loads += 1;
      await sleep(loadMs, signal);
      held.set(serverName, { serverName, revision, sizeBytes: copyBytes });
      return { kind: "ok", sizeBytes: copyBytes, measured: true };
    },
    async unload(serverName) {
      held.delete(serverName);
      return { kind: "ok" };
    },
    list: async () => ({ kind: "ok", held: [...held.values()] }),
    ready: async (serverName) => held.has(serverName),
    alive: () => true,
    doubt: () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}
