// Owns one watch on etcd: a stream of its own, opened anew after each break from where the last one ended.
//
//   opening --created--> watching --batch--> watching ... --break--> (pause) --> opening
//      \--future, other store--> compacted             \--compacted--> compacted
//
// Invariants: nothing is told twice or left out over a break; what a slow reader has not taken is bounded, by pausing
// the stream; a store that has gone back in time is told as `compacted`, since the revisions mean nothing there.
import { Duplex } from "node:stream";
import type { CallOptions } from "@grpc/grpc-js";
import type { Etcd3, IWatchResponse } from "etcd3";
import { sleep } from "../clock.ts";
import type { Log } from "../log.ts";
import type { EtcdClient } from "./etcdclient.ts";
import { classify } from "./etcderrors.ts";
import type { Change, WatchBatch } from "./registry.ts";

export interface EtcdWatchOptions {
  readonly client: EtcdClient;
  /** First key and the one after the last. */
  readonly key: Buffer;
  readonly rangeEnd: Buffer;
  /** The key as the registry's users know it. */
  readonly toKey: (key: Buffer) => string;
  readonly fromRevision: number;
  /** Asked before a watch goes on after a break: revisions of another store mean nothing. */
  readonly isSameStore: () => Promise<boolean>;
  readonly log: Log;
}

const createTimeoutMs = 5_000;
const firstPauseMs = 50;
const longestPauseMs = 1_000;

export async function* runEtcdWatch(options: EtcdWatchOptions, signal: AbortSignal): AsyncGenerator<WatchBatch> {
  const { client, toKey, log } = options;
  let revision = options.fromRevision;
  let pauseMs = firstPauseMs;
  for (let opened = 0; !signal.aborted; opened += 1) {
    try {
      if (opened > 0 && !(await options.isSameStore())) return yield { kind: "compacted" };
      for await (const response of openStream(options, revision, signal)) {
        const at = Number(response.header.revision);
        // A cancelled watch that names a revision was cancelled for asking what is forgotten.
        if (response.canceled && Number(response.compact_revision) > 0) return yield { kind: "compacted" };
        if (response.canceled) throw new Error(`etcd ended the watch: ${response.cancel_reason || "it gave no reason"}`);
        if (response.created) {
          if (at < revision) return yield { kind: "compacted" };
          pauseMs = firstPauseMs;
          continue;
        }
        const changes = response.events.map((event): Change => {
          const key = toKey(event.kv.key);
          const changed = Number(event.kv.mod_revision);
          // It comes as DELETE, and is typed as Delete.
          return event.type.toLowerCase() === "delete"
            ? { type: "delete", key, revision: changed }
            : { type: "put", key, value: event.kv.value.toString(), revision: changed };
        });
        // An empty one only says that nothing happened up to its revision.
        revision = Math.max(revision, changes.length === 0 ? at : (changes.at(-1)?.revision ?? at));
        if (changes.length > 0) yield { kind: "changes", changes, revision };
      }
    } catch (error) {
      if (signal.aborted) return;
      const explained = client.onStreamError(error);
      if (classify(error) === "compacted") return yield { kind: "compacted" };
      log.debug("a watch on the registry broke; opening it anew", { error: explained });
    }
    await sleep(pauseMs, signal).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, longestPauseMs);
  }
}

async function* openStream(
  { client, key, rangeEnd }: EtcdWatchOptions,
  revision: number,
  signal: AbortSignal,
): AsyncGenerator<IWatchResponse> {
  const stream = await client.stream((etcd: Etcd3, options: CallOptions) => etcd.watchClient.watch(options));
  const queue: IWatchResponse[] = [];
  let wake = Promise.withResolvers<void>();
  let failure: Error | undefined;
  let over = false;
  const end = (error?: Error): void => {
    over = true;
    failure ??= error;
    wake.resolve();
  };
  const stop = (): void => {
    end();
    stream.cancel();
  };
  const late = setTimeout(() => end(new Error(`etcd did not open a watch within ${createTimeoutMs} ms`)), createTimeoutMs);
  if (!(stream instanceof Duplex)) throw new Error("etcd3 gave a watch that cannot be paused");
  stream.on("data", (response: IWatchResponse) => {
    clearTimeout(late);
    queue.push(response);
    // Taken up again when the reader has what there is.
    stream.pause();
    wake.resolve();
  });
  stream.on("error", (error: Error) => end(error));
  stream.on("end", () => end(new Error("etcd closed the watch")));
  signal.addEventListener("abort", stop, { once: true });
  try {
    stream.write({
      create_request: { key, range_end: rangeEnd, start_revision: revision + 1, progress_notify: true },
    });
    for (;;) {
      if (signal.aborted) return;
      const next = queue.shift();
      if (next !== undefined) {
        yield next;
        continue;
      }
      if (over) {
        if (failure !== undefined) throw failure;
        return;
      }
      wake = Promise.withResolvers<void>();
      stream.resume();
      await wake.promise;
    }
  } finally {
    clearTimeout(late);
    signal.removeEventListener("abort", stop);
    stream.cancel();
  }
}
