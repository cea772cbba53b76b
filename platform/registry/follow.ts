// Owns following a prefix: what is there, then every change, and from the start again when changes were forgotten.
// The follower holds the state; this tells it what to do. Pages are told one by one, so a million entries never lie in
// memory twice and other work gets its turns.
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
}

const pageLimit = 2_000;
const firstPauseMs = 100;
const longestPauseMs = 5_000;

/** Runs until the signal is aborted. */
export async function runFollow(registry: Registry, prefix: string, follower: Follower, signal: AbortSignal): Promise<void> {
  let pauseMs = firstPauseMs;
  // The first list meets an empty follower: there is nothing to compare.
  let listed = false;
  while (!signal.aborted) {
    try {
      const revision = await fill(registry, prefix, follower, listed, signal);
      if (signal.aborted) return;
      listed = true;
      pauseMs = firstPauseMs;
      follower.synced();
      for await (const batch of registry.watch(prefix, revision, signal)) {
        if (batch.kind === "changes") for (const change of batch.changes) apply(follower, change);
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

async function fill(
  registry: Registry,
  prefix: string,
  follower: Follower,
  again: boolean,
  signal: AbortSignal,
): Promise<number> {
  const stale = new Set(again ? follower.keys() : []);
  let revision: number | undefined;
  for (let after: string | undefined, more = true; more && !signal.aborted; ) {
    const page = await registry.list(prefix, { after, limit: pageLimit });
    revision ??= page.revision;
    for (const { key, value } of page.entries) {
      stale.delete(key);
      follower.put(key, value);
    }
    after = page.entries.at(-1)?.key;
    more = page.more;
    await turn();
  }
  if (!signal.aborted) for (const key of stale) follower.delete(key);
  return revision ?? 0;
}

function apply(follower: Follower, change: Change): void {
  if (change.type === "put") follower.put(change.key, change.value);
  else follower.delete(change.key);
}
