// Owns following a prefix: what is there, then every change, and from the start again when changes were forgotten.
// The follower holds the state; this tells it what to do. Pages are told one by one, so a million entries never lie in
// memory twice and other work gets its turns.
//
// A store that is suddenly another one, or has gone back in time, may have lost what it held. What a careful follower
// knows and such a store lacks is then not deleted but missing, until it is put again, or deleted there in so many words.
import { setImmediate as turn } from "node:timers/promises";
import { sleep } from "../clock.ts";
import type { Change, Registry } from "./registry.ts";

export interface Follower {
  readonly put: (key: string, value: string) => void;
  readonly delete: (key: string) => void;
  /** All keys held now: those that a list no longer names are deleted. */
  readonly keys: () => Iterable<string>;
  /** A list is through: the state was true at one moment. */
  readonly synced: () => void;
  /** The registry failed; it is tried again after a pause. */
  readonly onError: (error: unknown) => void;
  /** What the store came back without, each time that it changes, and none in the end; without it such keys are deleted. */
  readonly onMissing?: (keys: ReadonlySet<string>) => void;
}

/** For each page etcd counts all keys that come after it: few large pages make a list of a million ten times as fast. */
const pageLimit = 20_000;
const firstPauseMs = 100;
const longestPauseMs = 5_000;

/** Runs until the signal is aborted. */
export async function runFollow(registry: Registry, prefix: string, follower: Follower, signal: AbortSignal): Promise<void> {
  const following = new Following(registry, prefix, follower);
  let pauseMs = firstPauseMs;
  while (!signal.aborted) {
    try {
      const revision = await following.fill(signal);
      if (signal.aborted) return;
      pauseMs = firstPauseMs;
      follower.synced();
      for await (const batch of registry.watch(prefix, revision, signal)) {
        if (batch.kind === "changes") following.apply(batch.changes, batch.revision);
      }
      // Ended without being asked to, by compaction or a closed registry: list again, but never in a tight loop.
      await sleep(firstPauseMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      follower.onError(error);
      await sleep(pauseMs, signal).catch(() => undefined);
      pauseMs = Math.min(pauseMs * 2, longestPauseMs);
    }
  }
}

interface Seen {
  readonly storeId: string;
  readonly revision: number;
}

class Following {
  readonly #registry: Registry;
  readonly #prefix: string;
  readonly #follower: Follower;
  /** The store as it was when it lacked nothing; undefined before the first list. */
  #whole: Seen | undefined;
  #now: Seen | undefined;
  #missing = new Set<string>();

  constructor(registry: Registry, prefix: string, follower: Follower) {
    this.#registry = registry;
    this.#prefix = prefix;
    this.#follower = follower;
  }

  /** Lists everything; returns the revision to watch from. */
  async fill(signal: AbortSignal): Promise<number> {
    const follower = this.#follower;
    const stale = new Set(follower.keys());
    let first: Seen | undefined;
    for (let after: string | undefined, more = true; more && !signal.aborted; ) {
      const page = await this.#registry.list(this.#prefix, { after, limit: pageLimit, at: first?.revision });
      first ??= page;
      for (const { key, value } of page.entries) {
        stale.delete(key);
        follower.put(key, value);
      }
      after = page.entries.at(-1)?.key;
      more = page.more;
      await turn();
    }
    if (first === undefined || signal.aborted) return 0;
    const { storeId, revision } = first;
    this.#now = { storeId, revision };
    const whole = this.#whole;
    const isDoubtful = whole !== undefined && (storeId !== whole.storeId || revision < whole.revision);
    if (isDoubtful && stale.size > 0 && follower.onMissing !== undefined) {
      this.#tell(stale);
    } else {
      for (const key of stale) follower.delete(key);
      this.#whole = this.#now;
      this.#tell(new Set());
    }
    return revision;
  }

  apply(changes: readonly Change[], revision: number): void {
    const were = this.#missing.size;
    for (const change of changes) {
      this.#missing.delete(change.key);
      if (change.type === "put") this.#follower.put(change.key, change.value);
      else this.#follower.delete(change.key);
    }
    if (this.#now !== undefined) this.#now = { ...this.#now, revision };
    if (this.#missing.size === 0) this.#whole = this.#now;
    if (this.#missing.size < were) this.#follower.onMissing?.(this.#missing);
  }

  #tell(missing: Set<string>): void {
    const isNews = missing.size > 0 || this.#missing.size > 0;
    this.#missing = missing;
    if (isNews) this.#follower.onMissing?.(missing);
  }
}
