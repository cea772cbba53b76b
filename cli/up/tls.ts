// Owns the certificates of `up --tls`: an authority of this state folder's own, kept over restarts so that clients go on
// trusting it, and with it certificates of the ports and of the processes, made anew at each start.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { StartupError } from "#platform/lifecycle.ts";
import { type Authority, createAuthority, type IdentityFiles, loadAuthority, writeIdentity } from "#platform/tls/authority.ts";
import { roleName } from "#platform/tls/identity.ts";

export interface PortFiles {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile?: string | undefined;
  readonly plainText?: boolean | undefined;
}

export interface UpTls {
  readonly ports: PortFiles;
  /** What clients of the ports trust; undefined when the ports' certificate was brought. */
  readonly caFile: string | undefined;
  readonly gateway: IdentityFiles;
  readonly adapter: IdentityFiles;
  /** Of the management API; callers trust its `ca`. */
  readonly management: IdentityFiles;
}

export interface TlsOptions {
  /** Address of the ports. */
  readonly host: string;
  /** A certificate that was brought; one of our own when absent. */
  readonly brought: { readonly certFile: string; readonly keyFile: string } | undefined;
  readonly clientCaFile: string | undefined;
  /** The ports answer plain text, too. */
  readonly plainText?: boolean;
}

const dayMs = 86_400_000;
const authorityLifeMs = 3_650 * dayMs;
const leafLifeMs = 365 * dayMs;

export async function openUpTls(stateFolder: string, options: TlsOptions): Promise<UpTls> {
  const folder = join(stateFolder, "tls");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const authority = await openAuthority(folder);
  const identity = async (name: string, names: readonly [string, ...string[]]): Promise<IdentityFiles> =>
    await writeIdentity(join(folder, name), authority.cert, await authority.issue(names, leafLifeMs));
  const gateway = await identity("gateway", [roleName("gateway")]);
  const adapter = await identity("adapter", [roleName("adapter")]);
  const management = await identity("management", ["localhost", "127.0.0.1", "::1"]);
  const { brought, clientCaFile, plainText } = options;
  if (brought !== undefined) {
    await requirePair(brought);
    return { ports: { ...brought, clientCaFile, plainText }, caFile: undefined, gateway, adapter, management };
  }
  const own = new Set(["localhost", hostname(), "127.0.0.1", "::1"]);
  if (options.host !== "0.0.0.0" && options.host !== "::") own.add(options.host);
  const server = await identity("server", ["localhost", ...own]);
  return {
    ports: { certFile: server.cert, keyFile: server.key, clientCaFile, plainText },
    caFile: server.ca,
    gateway,
    adapter,
    management,
  };
}

async function openAuthority(folder: string): Promise<Authority> {
  const certFile = join(folder, "authority.pem");
  const keyFile = join(folder, "authority-key.pem");
  const [cert, key] = await Promise.all([certFile, keyFile].map((file) => readFile(file, "utf8").catch(() => undefined)));
  if (cert !== undefined && key !== undefined) {
    const lastsMs = Date.parse(new X509Certificate(cert).validTo) - Date.now();
    if (lastsMs > leafLifeMs) return await loadAuthority({ cert, key });
  }
  const made = await createAuthority("warmpath up", authorityLifeMs);
  // The certificate last: without it the pair does not count.
  await writeNew(keyFile, made.key);
  await writeNew(certFile, made.cert);
  return made;
}

async function writeNew(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

/** Envoy would start and refuse every connection. */
async function requirePair({ certFile, keyFile }: { readonly certFile: string; readonly keyFile: string }): Promise<void> {
  try {
    const fits = new X509Certificate(await readFile(certFile)).checkPrivateKey(createPrivateKey(await readFile(keyFile)));
    if (!fits) throw new StartupError(`${keyFile} is not the key of ${certFile}`);
  } catch (cause) {
    if (cause instanceof StartupError) throw cause;
    throw new StartupError(`--tls-cert ${certFile} and --tls-key ${keyFile} cannot be used: both must be PEM files`, { cause });
  }
}
