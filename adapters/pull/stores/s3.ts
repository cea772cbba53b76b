// Owns artefacts in S3 and what speaks like it, through the AWS SDK. Loaded on the first use.
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { Readable } from "node:stream";
import { GetObjectCommand, HeadObjectCommand, ListObjectsV2Command, S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import { showName } from "../paths.ts";
import type { Source } from "../settings/source.ts";
import type { Digest, Listing, Reading, Store, StoredFile } from "../store.ts";
import { connectionError, PullError, statusError } from "../trouble.ts";
import { checkLiteral, guardedLookup } from "../web/guard.ts";
import { type Listed, listEither, listFolder } from "./listing.ts";
import { endAtSignal } from "./streams.ts";

export type S3Source = Extract<Source, { readonly kind: "s3" }>;

export interface S3Options {
  readonly allowPrivate: boolean;
  /** Credentials of this pod itself where the settings have none. */
  readonly ambient: boolean;
}

const connectMs = 10_000;
const maxSockets = 32;

export function createS3Client({ endpoint, region, entry, trusted }: S3Source, options: S3Options): S3Client {
  const guarded = !trusted && !options.allowPrivate;
  if (guarded && endpoint !== undefined) checkLiteral(new URL(endpoint).hostname);
  const sockets = { keepAlive: true, maxSockets, ...(guarded ? { lookup: guardedLookup } : {}) };
  const ca = entry?.certificate === undefined ? {} : { ca: entry.certificate };
  const config: S3ClientConfig = {
    region: region ?? "us-east-1",
    // The transfer tries again by itself, and goes on where it was.
    maxAttempts: 1,
    requestHandler: {
      connectionTimeout: connectMs,
      httpAgent: new HttpAgent(sockets),
      httpsAgent: new HttpsAgent({ ...sockets, ...ca }),
    },
    ...(endpoint === undefined ? { followRegionRedirects: true } : { endpoint, forcePathStyle: true }),
    ...credentialsOf(entry, options.ambient && trusted),
  };
  return new S3Client(config);
}

function credentialsOf(entry: S3Source["entry"], ambient: boolean): Partial<S3ClientConfig> {
  if (entry?.accessKeyId !== undefined && entry.secretAccessKey !== undefined) {
    const { accessKeyId, secretAccessKey, sessionToken } = entry;
    return { credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) } };
  }
  if (ambient) return {};
  // Unsigned: what is public can be read so.
  return { credentials: { accessKeyId: "none", secretAccessKey: "none" }, signer: { sign: async (request) => request } };
}

export function createS3Store({ bucket, path }: S3Source, client: S3Client): Store {
  const what = (key: string): string => showName(`s3://${bucket}/${key}`);

  const head = async (key: string, signal: AbortSignal): Promise<Listed> => {
    try {
      const found = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), { abortSignal: signal });
      return { ref: key, what: what(key), sizeBytes: found.ContentLength, version: found.ETag ?? "" };
    } catch (error) {
      signal.throwIfAborted();
      throw translate(error, what(key));
    }
  };

  const folder = async (signal: AbortSignal): Promise<Listing> => {
    const listing = listFolder(path, what(path));
    let token: string | undefined;
    do {
      const page = await client
        .send(
          new ListObjectsV2Command({
            Bucket: bucket,
            Prefix: path === "" ? "" : `${path}/`,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          { abortSignal: signal },
        )
        .catch((error: unknown) => {
          signal.throwIfAborted();
          throw translate(error, what(path));
        });
      for (const { Key, Size, ETag } of page.Contents ?? []) {
        if (Key !== undefined) listing.add({ ref: Key, what: what(Key), sizeBytes: Size, version: ETag ?? "" });
      }
      const next = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      if (page.IsTruncated === true && (next === undefined || next === token)) {
        throw new PullError("corrupt", `the store does not give the rest of its list of ${what(path)}`);
      }
      token = next;
    } while (token !== undefined);
    return listing.end();
  };

  return {
    list: (signal) => listEither(path, head, folder, signal),
    async find(key, signal): Promise<StoredFile> {
      return { ...(await head(key, signal)), path: key };
    },
    async digest(file, signal): Promise<Digest | undefined> {
      const version = file.version === "" ? {} : { IfMatch: file.version };
      const command = new HeadObjectCommand({ Bucket: bucket, Key: file.ref, ChecksumMode: "ENABLED", ...version });
      const answer = await client.send(command, { abortSignal: signal }).catch((error: unknown) => {
        signal.throwIfAborted();
        throw translate(error, file.what);
      });
      return wholeDigestOf(answer);
    },
    async read(file, fromByte, signal): Promise<Reading> {
      const command = new GetObjectCommand({
        Bucket: bucket,
        Key: file.ref,
        ...(file.version === "" ? {} : { IfMatch: file.version }),
        ...(fromByte === 0 ? { ChecksumMode: "ENABLED" } : { Range: `bytes=${fromByte}-` }),
      });
      const answer = await client.send(command, { abortSignal: signal }).catch((error: unknown) => {
        signal.throwIfAborted();
        throw translate(error, file.what);
      });
      const { Body: body } = answer;
      if (!(body instanceof Readable)) throw new PullError("corrupt", `the store gives no content of ${file.what}`);
      const stream = endAtSignal(body, signal);
      const from = fromByte === 0 ? 0 : Number(/^bytes (\d+)-/.exec(answer.ContentRange ?? "")?.[1]);
      const sizeBytes = answer.ContentLength === undefined ? undefined : answer.ContentLength + fromByte;
      if (from !== fromByte || (file.sizeBytes !== undefined && sizeBytes !== undefined && sizeBytes !== file.sizeBytes)) {
        stream.destroy();
        throw new PullError("corrupt", `the store does not give ${file.what} as it was asked for`);
      }
      const digest = fromByte === 0 ? digestOf(answer) : undefined;
      return { chunks: stream, ...(digest === undefined ? {} : { digest }) };
    },
  };
}

/**
 * What the whole object has for a checksum, where it is one that can be made here: not one of its parts' checksums, which has
 * their number behind it. https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
 */
function wholeDigestOf(facts: ObjectFacts): Digest | undefined {
  const { ChecksumSHA256: sha256, ChecksumSHA1: sha1, ChecksumCRC32: crc32 } = facts;
  for (const [algorithm, text, bytes] of [
    ["sha256", sha256, 32],
    ["sha1", sha1, 20],
    ["crc32", crc32, 4],
  ] as const) {
    const value = Buffer.from(text ?? "", "base64");
    if (value.length === bytes && text?.includes("-") === false) return { algorithm, hex: value.toString("hex") };
  }
  return etagOf(facts);
}

interface ObjectFacts {
  readonly ETag?: string | undefined;
  readonly ServerSideEncryption?: string | undefined;
  readonly SSECustomerAlgorithm?: string | undefined;
  readonly ChecksumCRC32?: string | undefined;
  readonly ChecksumCRC32C?: string | undefined;
  readonly ChecksumSHA1?: string | undefined;
  readonly ChecksumSHA256?: string | undefined;
}

/**
 * The ETag of an object that was put in one piece is the MD5 of its content, unless it is encrypted with a key of the
 * customer's: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html. A checksum of its own the SDK has checked.
 */
function digestOf(facts: ObjectFacts): Digest | undefined {
  if (facts.ChecksumCRC32 ?? facts.ChecksumCRC32C ?? facts.ChecksumSHA1 ?? facts.ChecksumSHA256) return undefined;
  return etagOf(facts);
}

function etagOf({ ETag, ServerSideEncryption, SSECustomerAlgorithm }: ObjectFacts): Digest | undefined {
  if (SSECustomerAlgorithm !== undefined || ServerSideEncryption?.startsWith("aws:") === true) return undefined;
  const hex = /^"([0-9a-f]{32})"$/.exec(ETag ?? "")?.[1];
  return hex === undefined ? undefined : { algorithm: "md5", hex };
}

const credentialNames: ReadonlySet<string> = new Set([
  "InvalidAccessKeyId",
  "SignatureDoesNotMatch",
  "ExpiredToken",
  "InvalidToken",
  "TokenRefreshRequired",
  "AuthorizationHeaderMalformed",
  "CredentialsProviderError",
  "ExpiredTokenException",
]);

function translate(error: unknown, what: string): PullError {
  if (error instanceof PullError) return error;
  const name = error instanceof Error ? error.name : "";
  if (credentialNames.has(name)) {
    return new PullError("credentials", `the credentials are not accepted for ${what} (${name})`, { cause: error });
  }
  const status = statusOf(error);
  return status === undefined ? connectionError(error, what) : statusError(status, what, { code: name });
}

function statusOf(error: unknown): number | undefined {
  if (typeof error !== "object" || error === null || !("$metadata" in error)) return undefined;
  const metadata: unknown = error.$metadata;
  if (typeof metadata !== "object" || metadata === null || !("httpStatusCode" in metadata)) return undefined;
  return typeof metadata.httpStatusCode === "number" ? metadata.httpStatusCode : undefined;
}
