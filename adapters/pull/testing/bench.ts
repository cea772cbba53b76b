// Owns a puller for tests: a cache and settings in a folder of their own, the real stores, short pauses.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openRunFolder } from "#platform/tempdir.ts";
import { createRecordingLog, type RecordingLog } from "#platform/testing.ts";
import { type DiskCache, openDiskCache } from "../cache/cache.ts";
import type { Puller } from "../puller.ts";
import { createRemotePuller } from "../remote.ts";
import { createStorageSettings } from "../settings/settings.ts";
import { createStores } from "../stores/open.ts";

export interface PullBench extends AsyncDisposable {
  readonly puller: Puller;
  readonly cache: DiskCache;
  readonly folder: string;
  readonly log: RecordingLog;
  setEntry(key: string, entry: unknown): Promise<void>;
  /** What an adapter does that is started anew: another cache in the same folder. */
  reopen(): Promise<void>;
}

export interface PullBenchOptions {
  readonly maxBytes?: number;
  readonly allowPrivate?: boolean;
  readonly silenceMs?: number;
  readonly listMs?: number;
  /** Credentials of this machine where the settings have none; no when absent. */
  readonly ambient?: boolean;
}

export async function openPullBench(options: PullBenchOptions = {}): Promise<PullBench> {
  const { maxBytes = 2 ** 30, allowPrivate = true, silenceMs = 30_000, listMs, ambient = false } = options;
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openRunFolder()).path;
  const at = (name: string): string => join(folder, name);
  await mkdir(at("settings"));
  const log = createRecordingLog();
  const settings = createStorageSettings(at("settings"));
  const stores = opening.use(createStores({ allowPrivate, ambient }));
  const transfer = { silenceMs, firstPauseMs: 5 };
  const open = async (): Promise<{ cache: DiskCache; puller: Puller }> => {
    const cache = await openDiskCache({ folder: at("cache"), maxBytes, log });
    const lists = listMs === undefined ? {} : { listMs };
    const pulls = { settings, stores, cache, pvcRoot: at("claims"), log, transfer, ...lists };
    return { cache, puller: createRemotePuller(pulls) };
  };
  let now = await open();
  opening.defer(() => now.cache[Symbol.asyncDispose]());
  const opened = opening.move();
  return {
    get puller(): Puller {
      return now.puller;
    },
    get cache(): DiskCache {
      return now.cache;
    },
    folder,
    log,
    setEntry: (key, entry) => writeFile(join(at("settings"), key), typeof entry === "string" ? entry : JSON.stringify(entry)),
    async reopen(): Promise<void> {
      await now.cache[Symbol.asyncDispose]();
      now = await open();
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
