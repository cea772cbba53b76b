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
import { type GatewayPresence, modelPrefix, nameOfKey, parseModelRecord, podPrefix } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { type RuntimeRecord, runRuntimeWatch, wakeRuntime } from "#platform/registry/runtimes.ts";
import type { RegistryTarget } from "#platform/registry/target.ts";
import { type ChangeModel, createChanges } from "./changes.ts";
import type { PodPresence } from "./links.ts";

/** What the management API needs of the registry. */
export interface ModelBook {
  readonly count: number;
  get(name: string): Model | undefined;
  /** In the order of the names. */
  names(after: string | undefined, limit: number): Promise<NamesPage>;
  readonly change: ChangeModel;
  /** Every change later than the registry's revision; ends with `compacted` when some of them are forgotten. */
  watch(fromRevision: number, signal: AbortSignal): AsyncIterable<ModelNews>;
  /** Where a watch begins that misses nothing from now on; undefined while the registry is away. */
  revision(): Promise<number | undefined>;
  /** How many known models the registry came back without. */
  missing(): number;
  /** Writes them again; resolves with how many were written. */
  restore(): Promise<number>;
}

export interface NamesPage {
  readonly names: readonly string[];
  readonly more: boolean;
}

export type ModelNews =
  | {
      readonly kind: "change";
      readonly name: string;
      /** Undefined: unregistered. */
      readonly model: Model | undefined;
      readonly revision: number;
    }
  | { readonly kind: "compacted" };

export interface Book extends ModelBook, AsyncDisposable {
  /** Names of those whose record's text matches; for the start only, since it looks at every one. */
  matching(pattern: RegExp): Iterable<string>;
  /** Names of all that are known here, in no order. */
  known(): Iterable<string>;
  /** Calls back whenever a model was registered, changed or unregistered. */
  onModel(listener: (name: string) => void): void;
  /** Ids of the pods that are present now. */
  listPods(): Promise<readonly string[]>;
  /** Calls back for each pod that is there, comes, starts anew, or leaves (undefined), until the book is closed. */
  watchPods(listener: (podId: string, presence: PodPresence | undefined) => void): void;
  /** Calls back for each runtime that pods can be had of, and when it is gone (undefined), until the book is closed. */
  watchRuntimes(listener: (name: string, record: RuntimeRecord | undefined) => void): void;
  /** Asks for pods of this runtime. */
  wake(runtime: string): Promise<void>;
  /** Tells the living gateways, this one too once it is announced, then every change, until the book is closed. */
  watchGateways(listener: GatewayListener): void;
  /** For what else is kept there. */
  readonly registry: Registry;
  /** Keeps this gateway announced until the book is closed. */
  announce(presence: GatewayPresence): void;
}

const maxPods = 10_000;
const firstPauseMs = 100;
const longestPauseMs = 1_000;
const presenceTtlMs = 5_000;

/** How long a registry is waited for that does not answer at the start, and who is told each time that it did not. */
export interface Patience {
  readonly patienceMs: number;
  readonly onAway: (reason: string) => Promise<void> | void;
}

/** Resolves when all registered models are known; a StartupError when the registry cannot be read. */
export async function openBook(target: RegistryTarget, log: Log, patience: Patience, signal: AbortSignal): Promise<Book> {
  await using opening = new AsyncDisposableStack();
  const registry = opening.use(await openRegistry(target, log));
  await requireAnswer(registry, patience, signal);
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
    revision: () =>
      registry.list(modelPrefix, { limit: 1 }).then(
        (page) => page.revision,
        () => undefined,
      ),
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
    watchRuntimes: (listener) => runUntilClosed(runRuntimeWatch(registry, listener, log, stop.signal)),
    wake: (runtime) => wakeRuntime(registry, runtime, systemClock.now()),
    watchGateways: (listener) => runUntilClosed(runGatewayWatch(registry, listener, log, stop.signal)),
    announce: (presence) => runUntilClosed(runGatewayPresence(registry, presence, { ttlMs: presenceTtlMs, log }, stop.signal)),
    missing: () => index.missing,
    restore: () => index.restore(),
    change: createChanges(registry, () => index.missing, log),
    watch: (fromRevision, signal) => watchModels(registry, fromRevision, AbortSignal.any([signal, stop.signal])),
    known: () => index.known(),
    matching: (pattern) => index.matching(pattern),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

/**
 * A registry that does not answer is waited for: what Envoy has goes on meanwhile, and a gateway that ended instead would be
 * started again ever later. One that answers with a refusal, such as of a password, ends the start.
 */
async function requireAnswer(registry: Registry, { patienceMs, onAway }: Patience, signal: AbortSignal): Promise<void> {
  const deadlineMs = systemClock.monotonicMs() + patienceMs;
  let pauseMs = firstPauseMs;
  for (;;) {
    try {
      await registry.get(podPrefix);
      return;
    } catch (error) {
      signal.throwIfAborted();
      const isAway = error instanceof WarmpathError && error.code === "registry-unavailable";
      if (!isAway || systemClock.monotonicMs() > deadlineMs) throw new StartupError(errorMessage(error), { cause: error });
      await onAway(errorMessage(error));
      await sleep(pauseMs, signal);
      pauseMs = Math.min(pauseMs * 2, longestPauseMs);
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

async function* watchModels(registry: Registry, fromRevision: number, signal: AbortSignal): AsyncGenerator<ModelNews> {
  for await (const batch of registry.watch(modelPrefix, fromRevision, signal)) {
    if (batch.kind === "compacted") {
      yield { kind: "compacted" };
      return;
    }
    for (const change of batch.changes) {
      const name = nameOfKey(change.key, modelPrefix);
      if (change.type === "delete") yield { kind: "change", name, model: undefined, revision: change.revision };
      else {
        const parsed = parseModelRecord(change.value);
        // Malformed records are told in the log by the index; here they are not models.
        if (parsed.kind === "ok") yield { kind: "change", name, model: parsed.value, revision: change.revision };
      }
    }
  }
}
