// Owns the gateway's view of the registry: every registered model, in memory, and the pods that are present.
// Reading never leaves the process, so misses go on while the registry is away; only changes need it.
import type { Model } from "#core/model.ts";
import type { Log } from "#platform/log.ts";
import { openModelIndex } from "#platform/registry/modelindex.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { type GatewayListener, runGatewayPresence, runGatewayWatch, runPodWatch } from "#platform/registry/presence.ts";
import { deleteModel, type GatewayPresence, getModel, nameOfKey, podPrefix, putModel } from "#platform/registry/records.ts";
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
  /** Keeps this gateway announced until the book is closed. */
  announce(presence: GatewayPresence): void;
}

const maxPods = 10_000;
const presenceTtlMs = 5_000;

/** Resolves when all registered models are known. `file`: of the embedded registry. */
export async function openBook(file: string, log: Log): Promise<Book> {
  await using opening = new AsyncDisposableStack();
  const registry = opening.use(await openRegistry({ kind: "embedded", file }));
  const index = opening.use(openModelIndex(registry, { log }));
  const stop = new AbortController();
  opening.defer(() => stop.abort());
  await index.synced;
  const parts = opening.move();
  const runUntilClosed = (running: Promise<void>): void => {
    parts.defer(() => running);
    parts.defer(() => stop.abort());
  };
  return {
    get count() {
      return index.count;
    },
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
    async register(model) {
      const put = await putModel(registry, model, "absent");
      if (put.kind === "ok") return { kind: "created" };
      if (put.kind !== "conflict") throw new Error(`the registry refused the model: ${put.kind}`);
      const known = await getModel(registry, model.name);
      return { kind: known !== undefined && sameContent(known.model, model) ? "same" : "exists" };
    },
    async unregister(name) {
      await deleteModel(registry, name);
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

function sameContent(one: Model, other: Model): boolean {
  return JSON.stringify(one.revisions) === JSON.stringify(other.revisions) && one.active === other.active;
}
