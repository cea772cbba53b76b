// Owns how a kind of small record that people write is followed: policies, keys, quotas. All of them are in memory; what comes
// in one batch is one change.
import type { Log } from "#platform/log.ts";
import { type Follower, runFollow } from "#platform/registry/follow.ts";
import { nameOfKey } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";

export interface FollowedKind {
  readonly prefix: string;
  readonly held: Map<string, unknown>;
  /** Takes the record in, or says why not: then there is none of its name. */
  readonly put: (name: string, value: string) => string | undefined;
  /** They are other ones than before. */
  readonly changed: () => void;
}

export interface Following extends AsyncDisposable {
  /** Resolves when all records that there are have been told; rejects when the signal is aborted before. */
  readonly synced: Promise<void>;
}

export function follow(registry: Registry, kinds: readonly FollowedKind[], log: Log, signal: AbortSignal): Following {
  const stop = new AbortController();
  const ended = AbortSignal.any([signal, stop.signal]);
  const following = kinds.map((kind) => followKind(registry, kind, log, ended));
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => undefined);
  ended.addEventListener("abort", () => aborted.reject(ended.reason), { once: true });
  return {
    synced: Promise.race([Promise.all(following.map(({ synced }) => synced)).then(() => undefined), aborted.promise]),
    async [Symbol.asyncDispose]() {
      stop.abort(new Error("the gateway stops"));
      await Promise.all(following.map(({ running }) => running));
    },
  };
}

function followKind(registry: Registry, { prefix, held, put, changed }: FollowedKind, log: Log, ended: AbortSignal) {
  const synced = Promise.withResolvers<void>();
  let planned = false;
  const plan = (): void => {
    if (planned) return;
    planned = true;
    setImmediate(() => {
      planned = false;
      changed();
    });
  };
  const follower: Follower = {
    put(key, value) {
      const name = nameOfKey(key, prefix);
      const refused = put(name, value);
      if (refused !== undefined) {
        // What cannot be read counts for nothing.
        held.delete(name);
        log.error("a record of who may call, or how much, is malformed", { key, reason: refused });
      }
      plan();
    },
    delete(key) {
      held.delete(nameOfKey(key, prefix));
      plan();
    },
    keys: () => Array.from(held.keys(), (name) => prefix + name),
    synced() {
      changed();
      synced.resolve();
    },
    onError: (error) => log.warn("who may call, or how much, could not be read; trying again", { error }),
  };
  return { synced: synced.promise, running: runFollow(registry, prefix, follower, ended) };
}
