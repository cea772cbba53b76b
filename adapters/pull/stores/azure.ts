// Owns artefacts in Azure's blob storage, through its own client. Loaded on the first use.

import { Readable } from "node:stream";
import type { TokenCredential } from "@azure/identity";
import { AnonymousCredential, BlobServiceClient, type ContainerClient } from "@azure/storage-blob";
import { showName } from "../paths.ts";
import type { Source } from "../settings/source.ts";
import type { Digest, Listing, Reading, Store, StoredFile } from "../store.ts";
import { connectionError, PullError, safeCode, statusError } from "../trouble.ts";
import { type Listed, listEither, listFolder } from "./listing.ts";
import { endAtSignal } from "./streams.ts";

export type AzureSource = Extract<Source, { readonly kind: "azure" }>;

export async function createAzureClient(
  { entry, host }: AzureSource,
  options: { readonly ambient: boolean },
): Promise<BlobServiceClient> {
  // The transfer tries again by itself, and goes on where it was.
  const once = { retryOptions: { maxTries: 1 } };
  if (entry?.connectionString !== undefined) {
    try {
      return BlobServiceClient.fromConnectionString(entry.connectionString, once);
    } catch (cause) {
      throw new PullError("settings", "the connection string in the storage settings is not one", { cause });
    }
  }
  if (host === undefined) throw new PullError("settings", "neither the model nor the storage settings name the account");
  const credential = await credentialOf(entry, options.ambient);
  return new BlobServiceClient(`https://${host}`, credential ?? new AnonymousCredential(), once);
}

async function credentialOf(entry: AzureSource["entry"], ambient: boolean): Promise<TokenCredential | undefined> {
  const { clientId, clientSecret, tenantId } = entry ?? {};
  if (clientId !== undefined && clientSecret !== undefined && tenantId !== undefined) {
    const { ClientSecretCredential } = await import("@azure/identity");
    return new ClientSecretCredential(tenantId, clientId, clientSecret);
  }
  if (!ambient || entry !== undefined) return undefined;
  const { DefaultAzureCredential } = await import("@azure/identity");
  return new DefaultAzureCredential();
}

export function createAzureStore({ container: name, path }: AzureSource, service: BlobServiceClient): Store {
  const container: ContainerClient = service.getContainerClient(name);
  const what = (blob: string): string => showName(`azure://${name}/${blob}`);

  const head = async (blob: string, signal: AbortSignal): Promise<Listed> => {
    try {
      const found = await container.getBlobClient(blob).getProperties({ abortSignal: signal });
      return listed(blob, what(blob), found);
    } catch (error) {
      signal.throwIfAborted();
      throw translate(error, what(blob));
    }
  };

  const folder = async (signal: AbortSignal): Promise<Listing> => {
    const listing = listFolder(path, what(path));
    try {
      for await (const { name: blob, properties } of container.listBlobsFlat({
        prefix: path === "" ? "" : `${path}/`,
        abortSignal: signal,
      })) {
        listing.add(listed(blob, what(blob), properties));
      }
    } catch (error) {
      signal.throwIfAborted();
      throw translate(error, what(path));
    }
    return listing.end();
  };

  return {
    list: (signal) => listEither(path, head, folder, signal),
    async find(blob, signal): Promise<StoredFile> {
      return { ...(await head(blob, signal)), path: blob };
    },
    async read(file, fromByte, signal): Promise<Reading> {
      try {
        const answer = await container.getBlobClient(file.ref).download(fromByte, undefined, {
          abortSignal: signal,
          maxRetryRequests: 0,
          ...(file.version === "" ? {} : { conditions: { ifMatch: file.version } }),
        });
        const { readableStreamBody: body } = answer;
        if (!(body instanceof Readable)) throw new PullError("corrupt", `the store gives no content of ${file.what}`);
        const stream = endAtSignal(body, signal);
        if (file.sizeBytes !== undefined && answer.contentLength !== file.sizeBytes - fromByte) {
          stream.destroy();
          throw new PullError("corrupt", `the store does not give ${file.what} as it was asked for`);
        }
        return { chunks: stream };
      } catch (error) {
        signal.throwIfAborted();
        throw translate(error, file.what);
      }
    },
  };
}

interface BlobFacts {
  readonly contentLength?: number;
  readonly etag?: string;
  readonly contentMD5?: Uint8Array;
}

function listed(blob: string, what: string, facts: BlobFacts): Listed {
  const digest: Digest | undefined =
    facts.contentMD5?.length === 16 ? { algorithm: "md5", hex: Buffer.from(facts.contentMD5).toString("hex") } : undefined;
  return {
    ref: blob,
    what,
    sizeBytes: facts.contentLength,
    // A list gives it without the quotes that a request wants.
    version: facts.etag === undefined ? "" : `"${facts.etag.replaceAll('"', "")}"`,
    ...(digest === undefined ? {} : { digest }),
  };
}

const credentialCodes: ReadonlySet<string> = new Set([
  "AuthenticationFailed",
  "InvalidAuthenticationInfo",
  "NoAuthenticationInformation",
]);

function translate(error: unknown, what: string): PullError {
  if (error instanceof PullError) return error;
  const { name, code, statusCode } = (error instanceof Error ? error : {}) as {
    name?: string;
    code?: unknown;
    statusCode?: unknown;
  };
  const said = typeof code === "string" ? safeCode(code) : undefined;
  if (
    (said !== undefined && credentialCodes.has(said)) ||
    name === "AuthenticationError" ||
    name === "CredentialUnavailableError"
  ) {
    return new PullError("credentials", `the credentials are not accepted for ${what}${said === undefined ? "" : ` (${said})`}`, {
      cause: error,
    });
  }
  if (typeof statusCode !== "number") return connectionError(error, what);
  return statusError(statusCode, what, said === undefined ? {} : { code: said });
}
