// Owns the local copy of one kind of objects: listed in pages, then followed by a watch.
//
//   listing --all pages--> watching --ended by the server--> watching (from the last version)
//      ^                      |   \--broken--> pause --> watching (from the last version)
//      +------- expired ------+
//
// Invariants: whatever was lost, the copy becomes what the API server has, and every difference is told once as a key;
// who is told reads the copy, so several changes may be one. Nothing is retried without a pause that grows.
import { sleep } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { type KubeClient, KubeError } from "./client.ts";
import { type KubeObject, keyOf, type ResourceType } from "./objects.ts";

export interface Store<T> {
  get(key: string): T | undefined;
  values(): Iterable<T>;
  keys(): Iterable<string>;
  readonly size: number;
}

export interface ReflectorOptions<T> {
  readonly client: Pick<KubeClient, "list" | "watch">;
  readonly type: ResourceType;
  /** Everywhere when absent. */
  readonly namespace: string | undefined;
  readonly labelSelector?: string;
  /** What is kept of an object; undefined when it is none of our business. */
  readonly parse: (object: KubeObject) => T | undefined;
  /** `before` and `now`: undefined when it was not or is not there. */
  readonly onChange: (key: string, now: T | undefined, before: T | undefined) => void;
  readonly log: Log;
  /** 0 to 1; spreads watches and pauses. */
  readonly random?: () => number;
}

export interface Reflector<T> {
  readonly store: Store<T>;
  /** Resolves when the first list is complete. */
  readonly synced: Promise<void>;
  /** Until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
}

const pageLimit = 500;
const watchSeconds = 300;
const firstPauseMs = 200;
const longestPauseMs = 30_000;

export function createReflector<T>(options: ReflectorOptions<T>): Reflector<T> {
  const { client, type, namespace, labelSelector, parse, onChange, log } = options;
  const random = options.random ?? Math.random;
  const objects = new Map<string, T>();
  const synced = Promise.withResolvers<void>();
  synced.promise.catch(() => undefined);
  let version: string | undefined;
  let pauseMs = firstPauseMs;

  function put(object: KubeObject): void {
    const key = keyOf(object.metadata);
    const now = parse(object);
    const before = objects.get(key);
    if (now === undefined) objects.delete(key);
    else objects.set(key, now);
    if (now !== undefined || before !== undefined) onChange(key, now, before);
  }

  function remove(key: string): void {
    const before = objects.get(key);
    if (objects.delete(key)) onChange(key, undefined, before);
  }

  async function list(): Promise<string> {
    const seen = new Set<string>();
    let continueFrom: string | undefined;
    let at: string | undefined;
    do {
      const page = await client.list(type, namespace, { limit: pageLimit, continueFrom, labelSelector });
      at ??= page.resourceVersion;
      for (const object of page.items) {
        seen.add(keyOf(object.metadata));
        put(object);
      }
      continueFrom = page.continueFrom;
    } while (continueFrom !== undefined);
    for (const key of Array.from(objects.keys())) if (!seen.has(key)) remove(key);
    return at;
  }

  async function follow(from: string, signal: AbortSignal): Promise<string | undefined> {
    version = from;
    const timeoutSeconds = watchSeconds + Math.floor(random() * watchSeconds);
    for await (const event of client.watch(type, namespace, { resourceVersion: from, timeoutSeconds, signal, labelSelector })) {
      if (event.kind === "expired") return undefined;
      pauseMs = firstPauseMs;
      if (event.kind === "bookmark") version = event.resourceVersion;
      else {
        if (event.kind === "changed") put(event.object);
        else remove(keyOf(event.object.metadata));
        version = event.object.metadata.resourceVersion;
      }
    }
    return version;
  }

  return {
    store: {
      get: (key) => objects.get(key),
      values: () => objects.values(),
      keys: () => objects.keys(),
      get size() {
        return objects.size;
      },
    },
    synced: synced.promise,
    async run(signal) {
      while (!signal.aborted) {
        try {
          version ??= await list();
          synced.resolve();
          const startedMs = performance.now();
          version = await follow(version, signal);
          // A server that ends each watch at once must not be asked all the time.
          if (performance.now() - startedMs < 1_000) await sleep(firstPauseMs, signal);
        } catch (error) {
          if (signal.aborted) break;
          // A page token that has expired, or a version that has: from the beginning.
          if (error instanceof KubeError && error.status === 410) version = undefined;
          log.warn("a kind of objects cannot be followed; trying again", { kind: type.kind, pauseMs, error });
          await sleep(pauseMs * (0.5 + random() / 2), signal).catch(() => undefined);
          pauseMs = Math.min(pauseMs * 2, longestPauseMs);
        }
      }
      synced.reject(new Error("stopped before the first list was complete"));
    },
  };
}
