// Owns the gateway's knowledge of all registered models, in memory: a look-up never waits and a registry that is down
// costs nothing. A million fit: they are kept as the raw text of their records and parsed when asked for, the last
// few thousand parsed ones being kept.
import { WarmpathError } from "#core/errors.ts";
import type { Model } from "#core/model.ts";
import { type Log, silentLog } from "../log.ts";
import { runFollow } from "./follow.ts";
import { modelPrefix, nameOfKey, parseModelRecord } from "./records.ts";
import type { Registry } from "./registry.ts";

export interface ModelNames {
  /** In the order of the names. */
  readonly names: readonly string[];
  readonly more: boolean;
}

export interface ModelIndex extends AsyncDisposable {
  readonly count: number;
  /**
   * How many of them the registry came back without, when it is suddenly another one or older than it was: they are known
   * and served on, and nothing should be changed before `restore`.
   */
  readonly missing: number;
  /** Writes them to the registry again, unless somebody else has; resolves with how many were written. */
  restore(): Promise<number>;
  /** Whether the first list is through: before that an unknown name may only be unknown so far. */
  readonly isSynced: boolean;
  /** Resolves when it is; rejects when the index is closed before. */
  readonly synced: Promise<void>;
  /** Undefined when it is not registered, or its record is malformed, which is logged once. */
  get(name: string): Model | undefined;
  has(name: string): boolean;
  /** Names of all, in no order. */
  known(): Iterable<string>;
  /** Told after each change with the model's name; a rewrite with the same text is none. */
  onChange(listener: (name: string) => void): Disposable;
  /** Names of those whose record's text matches. Looks at every one, without parsing: for the start of a process. */
  matching(pattern: RegExp): Iterable<string>;
  /** A page of names from the registry itself, which keeps them sorted; from memory while it is away. */
  names(options: { readonly after?: string | undefined; readonly limit: number }): Promise<ModelNames>;
}

export interface ModelIndexOptions {
  /** Parsed models kept; 4,096 when absent. */
  readonly keepParsed?: number;
  readonly log?: Log;
}

const restoresAtOnce = 16;

/** Returns at once; `synced` tells when it is filled. */
export function openModelIndex(registry: Registry, options: ModelIndexOptions = {}): ModelIndex {
  const { keepParsed = 4_096, log = silentLog } = options;
  const records = new Map<string, string>();
  // Insertion order is the order of use: the first one was not asked for the longest.
  const parsed = new Map<string, Model>();
  const listeners = new Set<(name: string) => void>();
  const stop = new AbortController();
  const synced = Promise.withResolvers<void>();
  let isSynced = false;
  let missing: ReadonlySet<string> = new Set();
  synced.promise.catch(() => undefined);

  const changed = (name: string): void => {
    parsed.delete(name);
    for (const listener of listeners) listener(name);
  };
  const running = runFollow(
    registry,
    modelPrefix,
    {
      put(key, value): void {
        const name = nameOfKey(key, modelPrefix);
        if (records.get(name) === value) return;
        records.set(name, value);
        changed(name);
      },
      delete(key): void {
        const name = nameOfKey(key, modelPrefix);
        if (records.delete(name)) changed(name);
      },
      keys: () => records.keys().map((name) => modelPrefix + name),
      synced(): void {
        isSynced = true;
        synced.resolve();
      },
      onError: (error) => log.warn("the registry could not be read; trying again", { error }),
      onMissing(keys): void {
        if (missing.size === 0 && keys.size > 0) {
          log.error("the registry came back without models that are known here; they are served on until they are restored", {
            missing: keys.size,
            known: records.size,
          });
        }
        if (keys.size === 0) log.info("the registry has all models again");
        missing = keys;
      },
    },
    stop.signal,
  );

  const parse = (name: string, record: string): Model | undefined => {
    const found = parseModelRecord(record);
    if (found.kind === "ok" && found.value.name === name) return found.value;
    log.error("a model's record is malformed; the model is treated as not registered", {
      model: name,
      reason: found.kind === "ok" ? "it names another model" : found.reason,
    });
    // Dropped, so that it is told only once; a repaired record is a change and comes back.
    records.delete(name);
    return undefined;
  };

  return {
    get count(): number {
      return records.size;
    },
    get missing(): number {
      return missing.size;
    },
    async restore(): Promise<number> {
      const keys = [...missing];
      let restored = 0;
      const work = async (): Promise<void> => {
        for (let key = keys.pop(); key !== undefined; key = keys.pop()) {
          const record = records.get(nameOfKey(key, modelPrefix));
          if (record === undefined) continue;
          const put = await registry.put(key, record, { expect: "absent" });
          if (put.kind === "ok") restored += 1;
        }
      };
      await Promise.all(Array.from({ length: restoresAtOnce }, work));
      return restored;
    },
    get isSynced(): boolean {
      return isSynced;
    },
    synced: synced.promise,
    get(name): Model | undefined {
      const kept = parsed.get(name);
      if (kept !== undefined) {
        parsed.delete(name);
        parsed.set(name, kept);
        return kept;
      }
      const record = records.get(name);
      const model = record === undefined ? undefined : parse(name, record);
      if (model === undefined) return undefined;
      parsed.set(name, model);
      if (parsed.size > keepParsed) for (const oldest of parsed.keys().take(1)) parsed.delete(oldest);
      return model;
    },
    has: (name) => records.has(name),
    known: () => records.keys(),
    *matching(pattern): Generator<string> {
      for (const [name, record] of records) if (pattern.test(record)) yield name;
    },
    onChange(listener): Disposable {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    async names({ after, limit }): Promise<ModelNames> {
      // What the registry has lost, or cannot say now, is known here.
      if (missing.size > 0) return pageOf(records, after, limit);
      const page = await registry
        .list(modelPrefix, { after: after === undefined ? undefined : modelPrefix + after, limit })
        .catch((error: unknown) => {
          if (error instanceof WarmpathError && error.code === "registry-unavailable") return undefined;
          throw error;
        });
      if (page === undefined) return pageOf(records, after, limit);
      return { names: page.entries.map((entry) => nameOfKey(entry.key, modelPrefix)), more: page.more };
    },
    async [Symbol.asyncDispose](): Promise<void> {
      stop.abort();
      synced.reject(new Error("the model index was closed before it was filled"));
      await running;
    },
  };
}

/** A page of names without the registry: all names are looked at, which is dear and therefore only done without it. */
function pageOf(records: ReadonlyMap<string, string>, after: string | undefined, limit: number): ModelNames {
  const later = records
    .keys()
    .filter((name) => after === undefined || name > after)
    .toArray()
    .sort();
  return { names: later.slice(0, limit), more: later.length > limit };
}
