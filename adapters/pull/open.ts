// Owns the pullers of an adapter put together from its options.
import type { Log } from "#platform/log.ts";
import { schemes } from "./address.ts";
import { openDiskCache } from "./cache/cache.ts";
import { createFilePuller } from "./local.ts";
import { createPullers, type Puller } from "./puller.ts";
import { createRemotePuller } from "./remote.ts";
import { createStorageSettings } from "./settings/settings.ts";
import { createStores } from "./stores/open.ts";

export interface PullOptions {
  readonly storageRoot: string;
  /** The mounted secret `storage-config`; without it there are no entries. */
  readonly storageConfig?: string | undefined;
  /** Without it only what lies on the model server's own disk can be loaded. */
  readonly cacheDir?: string | undefined;
  readonly cacheBytes: number;
  /** For a model server that runs as another user. */
  readonly cacheReadable?: boolean | undefined;
  readonly pvcRoot: string;
  readonly allowPrivateAddresses: boolean;
  readonly ambientCredentials: boolean;
}

/** What it opens is closed with the stack. */
export async function openPullers(options: PullOptions, log: Log, stack: AsyncDisposableStack): Promise<Puller> {
  const { storageRoot, storageConfig, cacheDir, cacheBytes, cacheReadable: readable = false } = options;
  const { pvcRoot, allowPrivateAddresses, ambientCredentials } = options;
  const file = createFilePuller({ storageRoot });
  if (cacheDir === undefined) return createPullers({ file });
  const stores = stack.use(createStores({ allowPrivate: allowPrivateAddresses, ambient: ambientCredentials }));
  const cache = stack.use(await openDiskCache({ folder: cacheDir, maxBytes: cacheBytes, readable, log }));
  const remote = createRemotePuller({ settings: createStorageSettings(storageConfig), stores, cache, pvcRoot, log });
  return createPullers({ ...Object.fromEntries(schemes.map((scheme) => [scheme, remote])), file });
}
