// Owns the credentials of a test's API server: a certificate authority, its serving certificate, the key of service
// account tokens, and a token for each identity.
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export const identities = {
  admin: { user: "admin", groups: "system:masters" },
  controllers: { user: "system:kube-controller-manager", groups: "" },
  scheduler: { user: "system:kube-scheduler", groups: "" },
  proxy: { user: "system:kube-proxy", groups: "" },
  node: { user: "system:node:node1", groups: "system:nodes" },
} as const;

export type Identity = keyof typeof identities;

export interface Credentials {
  readonly folder: string;
  readonly ca: string;
  readonly tokens: Readonly<Record<Identity, string>>;
}

/** Writes `ca.crt`, `api.crt`, `api.key`, `sa.key`, `sa.pub` and `tokens.csv` into the folder. */
export async function makeCredentials(folder: string, addresses: readonly string[]): Promise<Credentials> {
  const openssl = async (...args: string[]): Promise<void> => void (await run("openssl", args, { cwd: folder }));
  const newKey = (file: string): Promise<void> => openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file);
  await Promise.all([newKey("ca.key"), newKey("api.key"), openssl("genrsa", "-out", "sa.key", "2048")]);
  await Promise.all([
    openssl("req", "-x509", "-new", "-key", "ca.key", "-days", "30", "-subj", "/CN=test-ca", "-out", "ca.crt"),
    openssl("req", "-new", "-key", "api.key", "-subj", "/CN=kube-apiserver", "-out", "api.csr"),
    openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"),
  ]);
  const hosts = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map((name) => `DNS:${name}`);
  const all = [...hosts, ...["127.0.0.1", "10.96.0.1", ...addresses].map((address) => `IP:${address}`)];
  await writeFile(join(folder, "api.ext"), `subjectAltName=${[...new Set(all)].join(",")}\n`);
  const signed = ["-in", "api.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
  await openssl("x509", "-req", ...signed, "-out", "api.crt", "-extfile", "api.ext");
  const token = (): string => randomBytes(16).toString("hex");
  const tokens = { admin: token(), controllers: token(), scheduler: token(), proxy: token(), node: token() };
  const lines = Object.entries(identities).map(
    ([identity, { user, groups }]) => `${tokens[identity as Identity]},${user},${identity}${groups === "" ? "" : `,"${groups}"`}`,
  );
  await writeFile(join(folder, "tokens.csv"), `${lines.join("\n")}\n`, { mode: 0o600 });
  return { folder, ca: await readFile(join(folder, "ca.crt"), "utf8"), tokens };
}

/** A kubeconfig for whoever has the token. */
export function buildKubeconfig(server: string, ca: string, token: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster: { server, "certificate-authority-data": Buffer.from(ca).toString("base64") } }],
    users: [{ name: "test", user: { token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
    "current-context": "test",
  });
}
