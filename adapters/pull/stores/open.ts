// Owns the clients of stores: made on the first use of a scheme, kept while their entry is in use, closed when it is not.
// Invariant: a client belongs to one set of credentials and one server; a changed entry gets a new one.
import { keyOf } from "../cache/cache.ts";
import type { RemoteSource, Stores } from "../remote.ts";
import type { Store } from "../store.ts";
import { createWebClient, type WebClient } from "../web/client.ts";

export interface StoresOptions {
  /** Servers with private addresses are well, whoever named them. */
  readonly allowPrivate: boolean;
  /** Where the settings have no credentials, those of this pod itself count. */
  readonly ambient: boolean;
}

interface Kept {
  readonly client: Promise<unknown>;
  readonly close: (client: unknown) => Promise<void>;
}

const maxClients = 64;

export function createStores(options: StoresOptions): Stores {
  // The least recently used first.
  const clients = new Map<string, Kept>();

  const client = async <T>(facts: unknown, open: () => T | Promise<T>, close: (client: T) => unknown): Promise<T> => {
    const key = keyOf(facts);
    const known = clients.get(key);
    const kept: Kept = known ?? {
      client: Promise.resolve(open()),
      close: async (made) => void (await close(made as T)),
    };
    clients.delete(key);
    clients.set(key, kept);
    try {
      return (await kept.client) as T;
    } catch (error) {
      // The next one tries anew.
      if (clients.get(key) === kept) clients.delete(key);
      throw error;
    } finally {
      const [oldest] = clients;
      if (clients.size > maxClients && oldest !== undefined) {
        clients.delete(oldest[0]);
        retire(oldest[1]);
      }
    }
  };

  const web = async (facts: Parameters<typeof createWebClient>[0]): Promise<WebClient> =>
    await client(
      ["web", facts],
      () => createWebClient(facts),
      (made) => made[Symbol.asyncDispose](),
    );

  return {
    async open(source: RemoteSource): Promise<Store> {
      switch (source.kind) {
        case "s3": {
          const { createS3Client, createS3Store } = await import("./s3.ts");
          const { endpoint, region, entry, trusted } = source;
          const made = await client(
            ["s3", endpoint, region, entry, trusted],
            () => createS3Client(source, options),
            (s3) => s3.destroy(),
          );
          return createS3Store(source, made);
        }
        case "http": {
          const { createHttpStore } = await import("./http.ts");
          const { url, entry, trusted } = source;
          const tls = {
            certificate: entry?.certificate,
            clientCertificate: entry?.clientCertificate,
            clientKey: entry?.clientKey,
          };
          const trustedOrigin = trusted ? { trustedOrigin: new URL(url).origin } : {};
          return createHttpStore(source, await web({ allowPrivate: options.allowPrivate, ...trustedOrigin, tls }));
        }
        case "gcs": {
          const { createGcsClient, createGcsStore } = await import("./gcs.ts");
          const made = await client(
            ["gcs", source.entry],
            () => createGcsClient(source, options),
            () => undefined,
          );
          return createGcsStore(source, made);
        }
        case "azure": {
          const { createAzureClient, createAzureStore } = await import("./azure.ts");
          const made = await client(
            ["azure", source.host, source.entry],
            () => createAzureClient(source, options),
            () => undefined,
          );
          return createAzureStore(source, made);
        }
        case "hf": {
          const { createHubStore, usualHub } = await import("./hub.ts");
          const trustedOrigin = new URL(source.entry?.endpoint ?? usualHub).origin;
          return createHubStore(source, await web({ allowPrivate: options.allowPrivate, trustedOrigin }));
        }
        case "oci": {
          const { createOciStore, originOfRegistry } = await import("./oci.ts");
          const trustedOrigin = source.trusted ? { trustedOrigin: originOfRegistry(source.registry) } : {};
          return createOciStore(source, await web({ allowPrivate: options.allowPrivate, ...trustedOrigin }));
        }
      }
    },
    async [Symbol.asyncDispose](): Promise<void> {
      const all = [...clients.values()];
      clients.clear();
      await Promise.all(all.map(async ({ client, close }) => await close(await client.catch(() => undefined))));
    },
  };
}

/** Transfers under way go on with it for a while. */
const retireMs = 600_000;

function retire({ client, close }: Kept): void {
  setTimeout(() => {
    client.then(close).catch(() => undefined);
  }, retireMs).unref();
}
