// Owns who a process is to its peers, by mutual TLS: certificate, key and trusted CA from files, read again as they change.
// Invariants: a pair that does not fit together, or cannot be read, never takes the place of one that did; both sides of a
// connection prove themselves to the same CA; a role is the DNS name `ROLE.warmpath` in the certificate, so that an adapter
// cannot pass for a gateway.
import { type ChannelCredentials, experimental, type ServerCredentials, ServerInterceptingCall, status } from "@grpc/grpc-js";
import { UsageError } from "../lifecycle.ts";
import type { Log } from "../log.ts";
import { openPems } from "./pems.ts";
import { createProvider } from "./provider.ts";

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
    throw new UsageError("--peer-ca, --peer-cert and --peer-key go together");
  return await openIdentity({ caFile: peerCa, certFile: peerCert, keyFile: peerKey, log });
}

/** Throws a StartupError that names the file when there is nothing to begin with. */
export async function openIdentity(options: IdentityOptions): Promise<Identity> {
  const files = await openPems(options);
  const provider = createProvider(files);
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
    [Symbol.dispose]: () => files[Symbol.dispose](),
  };
}

/** `DNS:a, IP Address:b`: names that hold a comma or a quote are quoted by Node and equal to none of ours. */
function hasName(subjectAltName: string, wanted: ReadonlySet<string>): boolean {
  return subjectAltName.split(", ").some((entry) => entry.startsWith("DNS:") && wanted.has(entry.slice(4)));
}
