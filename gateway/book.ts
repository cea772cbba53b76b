// Owns the gateway's view of the registry: every registered model, in memory, and the pods that are present.
// Reading never leaves the process, so misses go on while the registry is away; only changes need it.
import { errorMessage, WarmpathError } from "#core/errors.ts";
import type { Model } from "#core/model.ts";
import { sleep, systemClock } from "#platform/clock.ts";
import { StartupError } from "#platform/lifecycle.ts";
import type { Log } from "#platform/log.ts";
import { openModelIndex } from "#platform/registry/modelindex.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { type GatewayListener, runGatewayPresence, runGatewayWatch, runPodWatch } from "#platform/registry/presence.ts";
import { deleteModel, type GatewayPresence, getModel, nameOfKey, podPrefix, putModel } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import type { RegistryTarget } from "#platform/registry/target.ts";
import type { ModelBook } from "./admin/state.ts";
import type { PodPresence } from "./links.ts";

export interface Book extends ModelBook, AsyncDisposable {
  /** Calls back whenever a model was registered, changed or unregistered. */
  onModel(listener: (name: string) => void): void;
  /** Ids of the pods that are present now. */
  listPods(): Promise<readonly string[]>;
  /** Calls back for each pod that is there, comes, starts anew, or leaves (undefined), until the book is closed. */
  watchPods(listener: (podId: string, presence: PodPresence | undefined) => void): void;
  /** Tells the living gateways, this one too once it is announced, then every change, until the book is closed. */
  watchGateways(listener: GatewayListener): void;
  /** For what else is kept there. */
  readonly registry: Registry;
  /** Keeps this gateway announced until the book is closed. */
  announce(presence: GatewayPresence): void;
}

const maxPods = 10_000;
const answerPatienceMs = 4_000;
const answerPauseMs = 100;
const presenceTtlMs = 5_000;

/** Resolves when all registered models are known; a StartupError when the registry cannot be read. */
export async function openBook(target: RegistryTarget, log: Log, signal: AbortSignal): Promise<Book> {
  await using opening = new AsyncDisposableStack();
  const registry = opening.use(await openRegistry(target, log));
  await requireAnswer(registry, signal);
  const index = opening.use(openModelIndex(registry, { log }));
  const stop = new AbortController();
  opening.defer(() => stop.abort());
  await untilSynced(index.synced, signal);
  const parts = opening.move();
  const runUntilClosed = (running: Promise<void>): void => {
    parts.defer(() => running);
    parts.defer(() => stop.abort());
  };
  return {
    get count() {
      return index.count;
    },
    registry,
    get: (name) => index.get(name),
    names: (after, limit) => index.names({ after, limit }),
    onModel: (listener) => void index.onChange(listener),
    async listPods() {
      const { entries } = await registry.list(podPrefix, { limit: maxPods });
      return entries.map(({ key }) => nameOfKey(key, podPrefix));
    },
    watchPods(listener) {
      const watch = {
        onPod: (pod: PodPresence) => listener(pod.podId, pod),
        onGone: (podId: string) => listener(podId, undefined),
      };
      runUntilClosed(runPodWatch(registry, watch, log, stop.signal));
    },
    watchGateways: (listener) => runUntilClosed(runGatewayWatch(registry, listener, log, stop.signal)),
    announce: (presence) => runUntilClosed(runGatewayPresence(registry, presence, { ttlMs: presenceTtlMs, log }, stop.signal)),
    missing: () => index.missing,
    restore: () => index.restore(),
    async register(model) {
      refuseWhileMissing(index.missing);
      const put = await putModel(registry, model, "absent");
      if (put.kind === "ok") return { kind: "created" };
      if (put.kind !== "conflict") throw new Error(`the registry refused the model: ${put.kind}`);
      const known = await getModel(registry, model.name);
      return { kind: known !== undefined && sameContent(known.model, model) ? "same" : "exists" };
    },
    async unregister(name) {
      refuseWhileMissing(index.missing);
      await deleteModel(registry, name);
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

/** An address that leads nowhere ends the start instead of hanging it; a registry that is only slow is waited for. */
async function requireAnswer(registry: Registry, signal: AbortSignal): Promise<void> {
  const deadlineMs = systemClock.monotonicMs() + answerPatienceMs;
  for (;;) {
    try {
      await registry.get(podPrefix);
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (systemClock.monotonicMs() > deadlineMs) throw new StartupError(errorMessage(error), { cause: error });
      await sleep(answerPauseMs, signal);
    }
  }
}

async function untilSynced(synced: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise: stopped, reject } = Promise.withResolvers<never>();
  const stop = (): void => reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  try {
    await Promise.race([synced, stopped]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** What is written to a registry that has lost models would make it harder to tell what is true. */
function refuseWhileMissing(missing: number): void {
  if (missing === 0) return;
  throw new WarmpathError(
    "registry-replaced",
    `the registry came back without ${missing} models that this gateway knows: restore them (POST /api/v1/registry/restore), or restart all gateways to go on with what it has`,
  );
}

function sameContent(one: Model, other: Model): boolean {
  return JSON.stringify(one.revisions) === JSON.stringify(other.revisions) && one.active === other.active;
}
