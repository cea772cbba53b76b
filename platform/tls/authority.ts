// Owns a certificate authority for one machine: for `up --tls` and for tests. Elsewhere certificates are brought by people
// or by their cluster. Keys are ECDSA P-256; names follow RFC 5280.
import "reflect-metadata";
import { randomBytes, type webcrypto } from "node:crypto";
import { mkdir, readlink, rename, rm, symlink, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** Clocks of clients may be behind. */
const leewayMs = 5 * 60_000;

/** PEM. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** What others trust is its `cert`. */
export interface Authority extends KeyPair {
  /** A certificate for a server and a client of these names (DNS or IP), the first of which is its common name. */
  issue(names: readonly [string, ...string[]], lifeMs: number): Promise<KeyPair>;
}

export async function createAuthority(commonName: string, lifeMs: number): Promise<Authority> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const own = await X509CertificateGenerator.createSelfSigned({
    ...validity(lifeMs),
    name: `CN=${commonName}`,
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { ...(await toPem(own, keys.privateKey)), issue: async (names, leafMs) => await issue(own, keys, names, leafMs) };
}

/** An authority that was made before; throws when the pair is none. */
export async function loadAuthority(pair: KeyPair): Promise<Authority> {
  const own = new X509Certificate(pair.cert);
  const key = Buffer.from(pair.key.replace(/-----[A-Z ]+-----|\s/g, ""), "base64");
  const keys = {
    privateKey: await crypto.subtle.importKey("pkcs8", key, algorithm, true, ["sign"]),
    publicKey: await own.publicKey.export(algorithm, ["verify"]),
  };
  return { ...pair, issue: async (names, leafMs) => await issue(own, keys, names, leafMs) };
}

async function issue(
  issuer: X509Certificate,
  issuerKeys: webcrypto.CryptoKeyPair,
  names: readonly [string, ...string[]],
  lifeMs: number,
): Promise<KeyPair> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const extensions: Extension[] = [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
    new SubjectAlternativeNameExtension(
      names.map((name) => (isIP(name) === 0 ? { type: "dns" as const, value: name } : { type: "ip" as const, value: name })),
    ),
    await SubjectKeyIdentifierExtension.create(keys.publicKey),
    await AuthorityKeyIdentifierExtension.create(issuerKeys.publicKey),
  ];
  const cert = await X509CertificateGenerator.create({
    ...validity(lifeMs),
    subject: `CN=${names[0]}`,
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey: issuerKeys.privateKey,
    signingAlgorithm: algorithm,
    extensions,
  });
  return await toPem(cert, keys.privateKey);
}

async function toPem(cert: X509Certificate, privateKey: CryptoKey): Promise<KeyPair> {
  const key = Buffer.from(await crypto.subtle.exportKey("pkcs8", privateKey));
  const lines = key.toString("base64").match(/.{1,64}/g) ?? [];
  return { cert: cert.toString("pem"), key: `-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n` };
}

function validity(lifeMs: number): { serialNumber: string; notBefore: Date; notAfter: Date } {
  const nowMs = Date.now();
  const serial = randomBytes(16);
  // Positive, as RFC 5280 wants.
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  return { serialNumber: serial.toString("hex"), notBefore: new Date(nowMs - leewayMs), notAfter: new Date(nowMs + lifeMs) };
}

/** PEM files. */
export interface IdentityFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/**
 * Writes `ca.pem`, `cert.pem` and `key.pem` into a folder, named as Kubernetes secrets are mounted: the files of one
 * moment lie in a folder of their own and a link is moved onto it, so that a reader never meets a mixed pair.
 */
export async function writeIdentity(folder: string, ca: string, pair: KeyPair): Promise<IdentityFiles> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const version = `..${randomBytes(6).toString("hex")}`;
  await mkdir(join(folder, version), { mode: 0o700 });
  const files = { "ca.pem": ca, "cert.pem": pair.cert, "key.pem": pair.key };
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(folder, version, name), text, { mode: 0o600 });
  }
  const was = await readlink(join(folder, "..data")).catch(() => undefined);
  await symlink(version, join(folder, `${version}.link`));
  await rename(join(folder, `${version}.link`), join(folder, "..data"));
  for (const name of Object.keys(files)) {
    await symlink(join("..data", name), join(folder, name)).catch((error: unknown) => {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    });
  }
  if (was !== undefined) await rm(join(folder, was), { recursive: true, force: true });
  return { ca: join(folder, "ca.pem"), cert: join(folder, "cert.pem"), key: join(folder, "key.pem") };
}
