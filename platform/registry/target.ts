// Owns how a registry is named on a command line: a file, or `etcd://HOST:PORT[,HOST:PORT]/PREFIX` (`etcds://` with TLS),
// with the flags beside it that say how to be let in. Pure: files are named here and read elsewhere.
import { z } from "zod";
import { UsageError } from "../lifecycle.ts";

/** Every command that opens a registry takes these. */
export const registryFlags = {
  registry: z
    .string({ error: "must name the registry: a file, or etcd://HOST:PORT/PREFIX" })
    .min(1)
    .describe("a file, or etcd://HOST:PORT[,HOST:PORT]/PREFIX, etcds:// with TLS"),
  etcdCa: z
    .string()
    .min(1)
    .optional()
    .describe("PEM file of the authorities of etcd's certificate; those of Node when absent; read again when it changes"),
  etcdCert: z.string().min(1).optional().describe("PEM file of the certificate that etcd wants of its clients"),
  etcdKey: z.string().min(1).optional().describe("PEM file of its key"),
  etcdServerName: z
    .string()
    .regex(/^[A-Za-z0-9.-]{1,253}$/, { error: "must be a host name" })
    .optional()
    .describe("the name in etcd's certificate, where it is not the one in the address"),
  etcdUser: z.string().min(1).optional().describe("user of etcd; with --etcd-password-file"),
  etcdPasswordFile: z.string().min(1).optional().describe("file that holds the password, and nothing else"),
} as const;

export interface RegistryOptions {
  readonly registry: string;
  readonly etcdCa?: string | undefined;
  readonly etcdCert?: string | undefined;
  readonly etcdKey?: string | undefined;
  readonly etcdServerName?: string | undefined;
  readonly etcdUser?: string | undefined;
  readonly etcdPasswordFile?: string | undefined;
}

export interface EmbeddedTarget {
  readonly kind: "embedded";
  /** The file that keeps it; several processes of one machine may open the same one. */
  readonly file: string;
}

export interface EtcdTarget {
  readonly kind: "etcd";
  /** `host:port` of each member; the first that answers is used. */
  readonly hosts: readonly string[];
  /** Before every key: fleets that share an etcd are told apart by it. */
  readonly prefix: string;
  readonly tls: TlsFiles | undefined;
  readonly login: { readonly user: string; readonly passwordFile: string } | undefined;
}

/** PEM files, read again when they change. */
export interface TlsFiles {
  readonly caFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  /** What the certificate must name; the host's own name when undefined. */
  readonly serverName: string | undefined;
}

export type RegistryTarget = EmbeddedTarget | EtcdTarget;

const defaultPort = 2379;
const maxHosts = 16;
const hostForm = /^(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(?::(\d{1,5}))?$/;
const prefixForm = /^(?:\/[A-Za-z0-9._-]{1,100}){1,8}$/;

/** Throws a UsageError that says what is wrong. */
export function parseRegistryTarget(options: RegistryOptions): RegistryTarget {
  const { registry, etcdCa, etcdCert, etcdKey, etcdServerName, etcdUser, etcdPasswordFile } = options;
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//.exec(registry)?.[1];
  if (scheme === undefined) {
    const stray = Object.entries({ etcdCa, etcdCert, etcdKey, etcdUser, etcdPasswordFile }).find(
      ([, value]) => value !== undefined,
    );
    if (stray !== undefined) {
      throw new UsageError("the --etcd-... options need --registry etcd://...");
    }
    return { kind: "embedded", file: registry };
  }
  if (scheme !== "etcd" && scheme !== "etcds") {
    throw new UsageError(`--registry begins with etcd:// or etcds://, or is a file; not ${scheme}://`);
  }
  const isTls = scheme === "etcds";
  if (!isTls && [etcdCa, etcdCert, etcdKey, etcdServerName].some((given) => given !== undefined)) {
    throw new UsageError("--etcd-ca, --etcd-cert, --etcd-key and --etcd-server-name need --registry etcds://...");
  }
  if ((etcdCert === undefined) !== (etcdKey === undefined)) throw new UsageError("--etcd-cert and --etcd-key go together");
  if ((etcdUser === undefined) !== (etcdPasswordFile === undefined)) {
    throw new UsageError("--etcd-user and --etcd-password-file go together");
  }
  const { hosts, prefix } = parseAddress(registry.slice(scheme.length + 3));
  // TLS names servers by name only (RFC 6066), and the client knows no other way to say what the certificate must hold.
  const bare = hosts.find((host) => /^(?:\[.*\]|[\d.]+):\d+$/.test(host));
  if (isTls && bare !== undefined && etcdServerName === undefined) {
    throw new UsageError(
      `--registry etcds://${bare} is an address and no name: say with --etcd-server-name what the certificate names`,
    );
  }
  return {
    kind: "etcd",
    hosts,
    prefix,
    tls: isTls ? { caFile: etcdCa, certFile: etcdCert, keyFile: etcdKey, serverName: etcdServerName } : undefined,
    login:
      etcdUser === undefined || etcdPasswordFile === undefined ? undefined : { user: etcdUser, passwordFile: etcdPasswordFile },
  };
}

function parseAddress(text: string): { readonly hosts: readonly string[]; readonly prefix: string } {
  const slash = text.indexOf("/");
  const hosts = (slash === -1 ? text : text.slice(0, slash)).split(",");
  if (text.includes("@")) throw new UsageError("--registry names no user: use --etcd-user and --etcd-password-file");
  if (hosts.length > maxHosts) throw new UsageError(`--registry names more than ${maxHosts} members`);
  const found = hosts.map((host) => {
    const form = hostForm.exec(host);
    const port = Number(form?.[1] ?? defaultPort);
    if (form === null || port < 1 || port > 65_535) {
      throw new UsageError(`--registry etcd://HOST:PORT/PREFIX: ${JSON.stringify(host.slice(0, 100))} is no HOST:PORT`);
    }
    return form[1] === undefined ? `${host}:${port}` : host;
  });
  const path = slash === -1 ? "" : text.slice(slash).replace(/\/$/, "");
  const prefix = path === "" ? "/warmpath" : path;
  if (!prefixForm.test(prefix)) {
    throw new UsageError("--registry etcd://HOST:PORT/PREFIX: a prefix is made of A-Z a-z 0-9 . _ - and slashes");
  }
  return { hosts: found, prefix };
}

/** For people; names no secret. */
export function describeTarget(target: RegistryTarget): string {
  return target.kind === "embedded"
    ? target.file
    : `etcd${target.tls === undefined ? "" : "s"}://${target.hosts.join(",")}${target.prefix}`;
}

/** The flags that lead another process to the same registry. */
export function flagsOfTarget(target: RegistryTarget): Readonly<Record<string, string>> {
  if (target.kind === "embedded") return { registry: target.file };
  const { tls, login } = target;
  const flags = {
    registry: describeTarget(target),
    "etcd-ca": tls?.caFile,
    "etcd-cert": tls?.certFile,
    "etcd-key": tls?.keyFile,
    "etcd-server-name": tls?.serverName,
    "etcd-user": login?.user,
    "etcd-password-file": login?.passwordFile,
  };
  return Object.fromEntries(Object.entries(flags).flatMap(([flag, value]) => (value === undefined ? [] : [[flag, value]])));
}
