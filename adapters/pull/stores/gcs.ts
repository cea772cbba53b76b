// Owns artefacts in Google Cloud Storage, through its own client. Loaded on the first use.
import { Storage, type StorageOptions } from "@google-cloud/storage";
import { showName } from "../paths.ts";
import type { Source } from "../settings/source.ts";
import type { Digest, Listing, Reading, Store, StoredFile } from "../store.ts";
import { connectionError, PullError, statusError } from "../trouble.ts";
import { type Listed, listEither, listFolder } from "./listing.ts";
import { endAtSignal } from "./streams.ts";

export type GcsSource = Extract<Source, { readonly kind: "gcs" }>;

const pageSize = 1_000;
const callMs = 30_000;

export function createGcsClient({ entry }: GcsSource, options: { readonly ambient: boolean }): Storage {
  const config: StorageOptions = {
    // The transfer tries again by itself, and goes on where it was.
    retryOptions: { autoRetry: false, maxRetries: 0 },
    timeout: callMs,
    projectId: "none",
    ...(entry?.endpoint === undefined ? {} : { apiEndpoint: entry.endpoint }),
  };
  if (entry?.clientEmail !== undefined && entry.privateKey !== undefined) {
    const { clientEmail: client_email, privateKey: private_key, tokenUri } = entry;
    return new Storage({
      ...config,
      credentials: { client_email, private_key, ...(tokenUri === undefined ? {} : { token_uri: tokenUri }) },
    });
  }
  if (options.ambient && entry === undefined) return new Storage(config);
  // Unsigned: what is public can be read so.
  return new Storage({ ...config, useAuthWithCustomEndpoint: false, authClient: anonymous() } as StorageOptions);
}

/** The part of a credential that the client uses. */
function anonymous(): unknown {
  return {
    getRequestHeaders: async () => new Headers(),
    authorizeRequest: async (request: unknown) => request,
    getAccessToken: async () => ({ token: null }),
    getProjectId: async () => "none",
  };
}

interface ObjectFacts {
  readonly name?: string;
  readonly size?: string | number;
  readonly generation?: string | number;
  readonly md5Hash?: string;
  readonly etag?: string;
}

export function createGcsStore({ bucket: bucketName, path }: GcsSource, client: Storage): Store {
  const bucket = client.bucket(bucketName);
  const what = (name: string): string => showName(`gs://${bucketName}/${name}`);

  const listed = (facts: ObjectFacts, name: string): Listed => {
    const digest = digestOf(facts);
    return {
      ref: name,
      what: what(name),
      sizeBytes: Number(facts.size ?? Number.NaN) >= 0 ? Number(facts.size) : undefined,
      version: String(facts.generation ?? facts.etag ?? ""),
      ...(digest === undefined ? {} : { digest }),
    };
  };

  /** The client takes no signal: whoever waits for it stops waiting. */
  const call = async <T>(work: Promise<T>, name: string, signal: AbortSignal): Promise<T> => {
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    work.catch(() => undefined);
    try {
      return await Promise.race([work, aborted]);
    } catch (error) {
      signal.throwIfAborted();
      throw translate(error, what(name));
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  };

  const head = async (name: string, signal: AbortSignal): Promise<Listed> => {
    const [facts] = await call(bucket.file(name).getMetadata(), name, signal);
    return listed(facts, name);
  };

  const folder = async (signal: AbortSignal): Promise<Listing> => {
    const listing = listFolder(path, what(path));
    let pageToken: string | undefined;
    do {
      const query = { prefix: path === "" ? "" : `${path}/`, autoPaginate: false, maxResults: pageSize };
      const [files, next] = await call(bucket.getFiles(pageToken === undefined ? query : { ...query, pageToken }), path, signal);
      for (const file of files) listing.add(listed(file.metadata, file.name));
      const token: unknown = next !== null && typeof next === "object" && "pageToken" in next ? next.pageToken : undefined;
      if (token !== undefined && token === pageToken) {
        throw new PullError("corrupt", `the store does not give the rest of its list of ${what(path)}`);
      }
      pageToken = typeof token === "string" && token !== "" ? token : undefined;
    } while (pageToken !== undefined);
    return listing.end();
  };

  return {
    list: (signal) => listEither(path, head, folder, signal),
    async find(name, signal): Promise<StoredFile> {
      return { ...(await head(name, signal)), path: name };
    },
    async read(file, fromByte, signal): Promise<Reading> {
      // The generation makes it the object that was listed, or none.
      const generation = /^\d+$/.test(file.version) ? { generation: file.version } : {};
      const object = bucket.file(file.ref, generation);
      const stream = endAtSignal(object.createReadStream({ start: fromByte, validation: false, decompress: false }), signal);
      return { chunks: translated(stream, file.what, signal) };
    },
  };
}

async function* translated(stream: AsyncIterable<Uint8Array>, what: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    yield* stream;
  } catch (error) {
    signal.throwIfAborted();
    throw translate(error, what);
  }
}

function digestOf({ md5Hash }: ObjectFacts): Digest | undefined {
  if (md5Hash === undefined || !/^[A-Za-z0-9+/]{22}==$/.test(md5Hash)) return undefined;
  return { algorithm: "md5", hex: Buffer.from(md5Hash, "base64").toString("hex") };
}

function translate(error: unknown, what: string): PullError {
  if (error instanceof PullError) return error;
  const status = numberOf(error, "code") ?? numberOf(error, "status");
  if (status !== undefined && status >= 400) return statusError(status, what);
  const text = error instanceof Error ? error.message : "";
  // A key that cannot be read, or that Google's token server does not know.
  if (/invalid_grant|invalid_client|DECODER|PEM|asn1|secretOrPrivateKey|private key/i.test(text)) {
    return new PullError("credentials", `the credentials are not accepted for ${what}`, { cause: error });
  }
  return connectionError(error, what);
}

function numberOf(error: unknown, name: string): number | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const value: unknown = Reflect.get(error, name);
  return typeof value === "number" ? value : typeof value === "string" && /^\d{3}$/.test(value) ? Number(value) : undefined;
}
