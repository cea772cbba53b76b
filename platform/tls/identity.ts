// Owns who a process is to its peers, by mutual TLS: certificate, key and trusted CA from files, read again as they change.
// Invariants: a pair that does not fit together, or cannot be read, never takes the place of one that did; both sides of a
// connection prove themselves to the same CA; a role is the DNS name `ROLE.warmpath` in the certificate, so that an adapter
// cannot pass for a gateway.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type ChannelCredentials, experimental, type ServerCredentials, ServerInterceptingCall, status } from "@grpc/grpc-js";
import { errorMessage } from "#core/errors.ts";
import { StartupError } from "../lifecycle.ts";
import type { Log } from "../log.ts";

export const roles = ["gateway", "adapter", "controller"] as const;

export type Role = (typeof roles)[number];

export interface IdentityOptions {
  /** PEM files. */
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  /** How often the files are looked at; 5 s when absent. */
  readonly refreshMs?: number;
  readonly log: Log;
}

export interface Identity extends Disposable {
  /** Takes only peers of these roles; others get PERMISSION_DENIED. */
  serverCredentials(peers: readonly Role[]): ServerCredentials;
  /** For a channel with `channelOptions(role)`: without them the name in the address counts. */
  channelCredentials(): ChannelCredentials;
}

/** The name that a peer of this role must prove, whatever address it has. */
export function channelOptions(role: Role): Readonly<Record<string, string>> {
  return { "grpc.ssl_target_name_override": roleName(role), "grpc.default_authority": roleName(role) };
}

export function roleName(role: Role): string {
  return `${role}.warmpath`;
}

/** The options `peerCa`, `peerCert` and `peerKey` of a process; undefined when none is given. */
export async function openPeerIdentity(
  flags: { readonly peerCa?: string | undefined; readonly peerCert?: string | undefined; readonly peerKey?: string | undefined },
  log: Log,
): Promise<Identity | undefined> {
  const { peerCa, peerCert, peerKey } = flags;
  if (peerCa === undefined && peerCert === undefined && peerKey === undefined) return undefined;
  if (peerCa === undefined || peerCert === undefined || peerKey === undefined)
    throw new StartupError("--peer-ca, --peer-cert and --peer-key go together");
  return await openIdentity({ caFile: peerCa, certFile: peerCert, keyFile: peerKey, log });
}

interface Pems {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Throws a StartupError that names the file when there is nothing to begin with. */
export async function openIdentity(options: IdentityOptions): Promise<Identity> {
  const { log, refreshMs = 5_000 } = options;
  let pems = await read(options).catch((cause: unknown) => {
    throw new StartupError(`the TLS identity cannot be used: ${errorMessage(cause)}`, { cause });
  });
  const ca = new Set<(update: { caCertificate: Buffer }) => void>();
  const identities = new Set<(update: { certificate: Buffer; privateKey: Buffer }) => void>();
  let warned = "";

  const look = async (): Promise<void> => {
    try {
      const now = await read(options);
      warned = "";
      if (now.ca.equals(pems.ca) && now.cert.equals(pems.cert) && now.key.equals(pems.key)) return;
      pems = now;
      log.info("the TLS identity was renewed");
      for (const tell of identities) tell({ certificate: pems.cert, privateKey: pems.key });
      for (const tell of ca) tell({ caCertificate: pems.ca });
    } catch (error) {
      // Half written, as a rule; said once.
      if (warned === errorMessage(error)) return;
      warned = errorMessage(error);
      log.warn("the TLS identity cannot be renewed; the one before stays", { reason: warned });
    }
  };
  const timer = setInterval(() => void look(), refreshMs);
  timer.unref();

  const provider: experimental.CertificateProvider = {
    addCaCertificateListener(listener) {
      ca.add(listener);
      process.nextTick(() => listener({ caCertificate: pems.ca }));
    },
    removeCaCertificateListener: (listener) => void ca.delete(listener),
    addIdentityCertificateListener(listener) {
      identities.add(listener);
      process.nextTick(() => listener({ certificate: pems.cert, privateKey: pems.key }));
    },
    removeIdentityCertificateListener: (listener) => void identities.delete(listener),
  };

  return {
    serverCredentials(peers) {
      const wanted = new Set(peers.map(roleName));
      const secure = experimental.createCertificateProviderServerCredentials(provider, provider, true);
      return experimental.createServerCredentialsWithInterceptors(secure, [
        (_method, call) =>
          new ServerInterceptingCall(call, {
            start(next) {
              const names = call.getAuthContext().sslPeerCertificate?.subjectaltname ?? "";
              if (hasName(names, wanted)) return next();
              return call.sendStatus({
                code: status.PERMISSION_DENIED,
                details: "the certificate does not belong to a peer of this service",
              });
            },
          }),
      ]);
    },
    channelCredentials: () => experimental.createCertificateProviderChannelCredentials(provider, provider),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

async function read(options: IdentityOptions): Promise<Pems> {
  const [ca, cert, key] = await Promise.all([options.caFile, options.certFile, options.keyFile].map(readNamed));
  if (ca === undefined || cert === undefined || key === undefined) throw new Error("a file is missing");
  parsed(options.caFile, () => new X509Certificate(ca));
  const own = parsed(options.certFile, () => new X509Certificate(cert));
  const secret = parsed(options.keyFile, () => createPrivateKey(key));
  if (!own.checkPrivateKey(secret)) throw new Error(`${options.keyFile} is not the key of ${options.certFile}`);
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

/** `DNS:a, IP Address:b`: names that hold a comma or a quote are quoted by Node and equal to none of ours. */
function hasName(subjectAltName: string, wanted: ReadonlySet<string>): boolean {
  return subjectAltName.split(", ").some((entry) => entry.startsWith("DNS:") && wanted.has(entry.slice(4)));
}
