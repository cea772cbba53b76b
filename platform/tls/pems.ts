// Owns certificate, key and trusted authorities in files: read, proven to fit together, and read again as they change.
// Invariant: what does not fit together, or cannot be read, never takes the place of what did.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { SecureContextOptions } from "node:tls";
import { errorMessage } from "#core/errors.ts";
import { StartupError } from "../lifecycle.ts";
import type { Log } from "../log.ts";

export interface PemOptions {
  /** PEM files. */
  readonly caFile?: string | undefined;
  readonly certFile: string;
  readonly keyFile: string;
  /** How often the files are looked at; 5 s when absent. */
  readonly refreshMs?: number;
  readonly log: Log;
}

export interface Pems {
  /** Undefined when no file of it was named. */
  readonly ca: Buffer | undefined;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Of a server that asks its clients for no certificate. */
export function contextOf({ cert, key }: Pems): SecureContextOptions {
  return { cert, key, minVersion: "TLSv1.2" };
}

export interface PemFiles extends Disposable {
  readonly now: Pems;
  onRenewed(listener: (pems: Pems) => void): void;
}

/** Throws a StartupError that names the file when there is nothing to begin with. */
export async function openPems(options: PemOptions): Promise<PemFiles> {
  const { log, refreshMs = 5_000 } = options;
  let pems = await read(options).catch((cause: unknown) => {
    throw new StartupError(`the TLS identity cannot be used: ${errorMessage(cause)}`, { cause });
  });
  const listeners = new Set<(pems: Pems) => void>();
  let warned = "";

  const look = async (): Promise<void> => {
    try {
      const now = await read(options);
      warned = "";
      if (isSame(now.ca, pems.ca) && now.cert.equals(pems.cert) && now.key.equals(pems.key)) return;
      pems = now;
      log.info("the TLS identity was renewed");
      for (const listener of listeners) listener(pems);
    } catch (error) {
      // Half written, as a rule; said once.
      if (warned === errorMessage(error)) return;
      warned = errorMessage(error);
      log.warn("the TLS identity cannot be renewed; the one before stays", { reason: warned });
    }
  };
  const timer = setInterval(() => void look(), refreshMs);
  timer.unref();
  return {
    get now(): Pems {
      return pems;
    },
    onRenewed: (listener) => void listeners.add(listener),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

function isSame(one: Buffer | undefined, other: Buffer | undefined): boolean {
  return one === undefined || other === undefined ? one === other : one.equals(other);
}

async function read({ caFile, certFile, keyFile }: PemOptions): Promise<Pems> {
  const [cert, key, ca] = await Promise.all([
    readNamed(certFile),
    readNamed(keyFile),
    caFile === undefined ? undefined : readNamed(caFile),
  ]);
  if (caFile !== undefined && ca !== undefined) parsed(caFile, () => new X509Certificate(ca));
  const own = parsed(certFile, () => new X509Certificate(cert));
  const secret = parsed(keyFile, () => createPrivateKey(key));
  if (!own.checkPrivateKey(secret)) throw new Error(`${keyFile} is not the key of ${certFile}`);
  return { ca, cert, key };
}

async function readNamed(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unreadable";
    throw new Error(`${file} cannot be read (${code})`, { cause });
  }
}

/** The parser's own words may hold what is in the file. */
function parsed<T>(file: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new Error(`${file} is no PEM file of its kind`, { cause });
  }
}
