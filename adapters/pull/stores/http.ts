// Owns artefacts on web servers: one file, or an archive of many.
// A first request for a single byte tells size and version, since signed addresses often allow no HEAD.

import { showUrl } from "../address.ts";
import { archiveOf } from "../archive/kinds.ts";
import { baseName, showName } from "../paths.ts";
import type { Source } from "../settings/source.ts";
import type { Digest, Listing, Reading, Store, StoredFile } from "../store.ts";
import { PullError } from "../trouble.ts";
import { discardBody, expectStatus, type WebAnswer, type WebClient } from "../web/client.ts";

type HttpSource = Extract<Source, { readonly kind: "http" }>;

export function createHttpStore(source: HttpSource, client: WebClient): Store {
  const secretHeaders = source.entry?.headers ?? {};
  const ask = async (url: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<WebAnswer> =>
    await client.send(url, { headers: { "accept-encoding": "identity", ...headers }, secretHeaders, signal });

  const look = async (url: string, signal: AbortSignal): Promise<StoredFile> => {
    const what = showUrl(url);
    const answer = await ask(url, { range: "bytes=0-0" }, signal);
    // Nobody needs what else a server without ranges sends.
    discardBody(answer);
    const empty = answer.status === 416 && /^bytes \*\/0$/.test(answer.headers["content-range"] ?? "");
    if (!empty) await expectStatus(answer, [200, 206], what);
    refuseEncoding(answer, what);
    const name = baseName(decodeName(new URL(url).pathname));
    const archive = archiveOf(name);
    return {
      path: name,
      ref: url,
      what,
      sizeBytes: empty ? 0 : sizeOf(answer),
      version: versionOf(answer),
      ...(archive === undefined ? {} : { archive: archive.kind }),
    };
  };

  return {
    async list(signal): Promise<Listing> {
      const file = await look(source.url, signal);
      const archive = archiveOf(file.path);
      return { name: archive?.stem ?? file.path, single: archive === undefined, files: [file] };
    },
    async find(path, signal): Promise<StoredFile> {
      const url = new URL(source.url);
      url.pathname = path.split("/").map(encodeURIComponent).join("/");
      const { archive: _, ...file } = await look(url.href, signal);
      return file;
    },
    async read(file, fromByte, signal): Promise<Reading> {
      const answer = await ask(file.ref, rangeHeaders(file, fromByte), signal);
      await expectStatus(answer, [200, 206], file.what);
      try {
        refuseEncoding(answer, file.what);
        checkAnswer(answer, file, fromByte);
      } catch (error) {
        discardBody(answer);
        throw error;
      }
      const digest = digestOf(answer);
      return { chunks: answer.body, ...(digest === undefined ? {} : { digest }) };
    },
  };
}

/** A weak ETag or none gives no right to a part: then the file is read from its beginning. */
function rangeHeaders(file: StoredFile, fromByte: number): Readonly<Record<string, string>> {
  const exact = file.version.startsWith('"') ? { "if-match": file.version } : {};
  return fromByte === 0 ? exact : { ...exact, range: `bytes=${fromByte}-` };
}

function checkAnswer(answer: WebAnswer, file: StoredFile, fromByte: number): void {
  const { status, headers } = answer;
  if (file.version !== "" && versionOf(answer) !== file.version) {
    throw new PullError("changed", `${file.what} was changed while it was fetched`);
  }
  if (fromByte > 0) {
    const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers["content-range"] ?? "");
    if (status !== 206 || Number(range?.[1]) !== fromByte || Number(range?.[2]) !== file.sizeBytes) {
      throw new PullError("corrupt", `the server does not give ${file.what} from byte ${fromByte} on`);
    }
    return;
  }
  if (status !== 200) throw new PullError("corrupt", `the server gives a part of ${file.what} though all of it was asked for`);
  const sizeBytes = sizeOf(answer);
  if (file.sizeBytes !== undefined && sizeBytes !== undefined && sizeBytes !== file.sizeBytes) {
    throw new PullError("changed", `${file.what} has another length than before`);
  }
  if (sizeBytes === undefined && file.sizeBytes === undefined && !/\bchunked\b/i.test(headers["transfer-encoding"] ?? "")) {
    throw new PullError("unsuitable", `the server does not say where ${file.what} ends, so it may be cut off`);
  }
}

/** What is decoded on the way has neither the length nor the parts that were promised. */
function refuseEncoding(answer: WebAnswer, what: string): void {
  if (!/^(?:identity)?$/i.test(answer.headers["content-encoding"] ?? "")) {
    throw new PullError("unsuitable", `the server encodes ${what} though it was asked not to`);
  }
}

function sizeOf({ status, headers }: WebAnswer): number | undefined {
  const text = status === 206 ? /\/(\d{1,15})$/.exec(headers["content-range"] ?? "")?.[1] : headers["content-length"];
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** A time of change says something only once it is well past. */
function versionOf({ headers }: WebAnswer): string {
  const etag = headers["etag"];
  if (etag !== undefined && etag.length <= 512 && /^(?:W\/)?"[\x21-\x7E\x80-\xFF]*"$/.test(etag)) return etag;
  const changedMs = Date.parse(headers["last-modified"] ?? "");
  const nowMs = Date.parse(headers["date"] ?? "");
  return nowMs - changedMs >= 2_000 ? `at ${changedMs}` : "";
}

/** https://www.rfc-editor.org/rfc/rfc9530, and the header before it. */
function digestOf({ headers }: WebAnswer): Digest | undefined {
  const sha256 = /(?:^|,\s*)sha-256=:([A-Za-z0-9+/]{43}=):/.exec(headers["repr-digest"] ?? "")?.[1];
  if (sha256 !== undefined) return { algorithm: "sha256", hex: Buffer.from(sha256, "base64").toString("hex") };
  const md5 = /^[A-Za-z0-9+/]{22}==$/.exec(headers["content-md5"] ?? "")?.[0];
  return md5 === undefined ? undefined : { algorithm: "md5", hex: Buffer.from(md5, "base64").toString("hex") };
}

function decodeName(pathname: string): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return showName(pathname);
  }
}
