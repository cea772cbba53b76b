// Owns an etcd as an operator has one of their own: outside of the cluster, on the node's address, with TLS, client certificates
// and users. Its name in the certificate is not its address.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Etcd3 } from "etcd3";
import { type Authority, createAuthority, type KeyPair } from "#platform/tls/authority.ts";
import { waitUntil } from "#test/harness/wait.ts";
import type { Cluster } from "./cluster.ts";
import { findPrograms } from "./programs.ts";

export interface OwnEtcd extends AsyncDisposable {
  /** Of the chart. */
  readonly values: readonly string[];
  /** The secret that the values name. */
  readonly secret: string;
  /** The same for what comes next: a certificate of another authority, which counts already, and another password, which does not. */
  readonly nextSecret: string;
  /** From now on what came first counts no more. */
  renew(): Promise<void>;
  /** Neither the first certificate nor the first password is good. */
  refusesFirst(): Promise<boolean>;
  /** That begin so. */
  keys(prefix: string): Promise<readonly string[]>;
}

interface Access {
  readonly authority: Authority;
  readonly own: KeyPair;
  readonly password: string;
}

const port = 2479;
const name = "etcd.shop.test";
const user = "shop";
const prefix = "/fleets/shop";
const secretName = "shop-etcd";
const lifeMs = 86_400_000;

export async function openOwnEtcd(cluster: Cluster): Promise<OwnEtcd> {
  await using stack = new AsyncDisposableStack();
  const folder = join(cluster.folder, "own-etcd");
  await mkdir(folder);
  const file = (of: string): string => join(folder, of);
  const url = `https://${cluster.address}:${port}`;
  const program = join(await findPrograms(), "etcd");
  const forward = await cluster.forward(cluster.address, port);
  const [first, next] = await Promise.all(["first-password", "next-password"].map(createAccess));
  if (first === undefined || next === undefined) throw new Error("there is no access");
  let root: Etcd3 | undefined;
  let running: Promise<unknown> | undefined;

  /** Who names no user is who the certificate names. */
  const connectAs = ({ authority, own }: Pick<Access, "authority" | "own">, password?: string): Etcd3 =>
    new Etcd3({
      hosts: `https://${forward.host}:${forward.port}`,
      credentials: {
        rootCertificate: Buffer.from(authority.cert),
        privateKey: Buffer.from(own.key),
        certChain: Buffer.from(own.cert),
      },
      ...(password === undefined ? {} : { auth: { username: user, password } }),
      grpcOptions: { "grpc.ssl_target_name_override": name },
    });

  async function start({ authority }: Access, trusted: readonly Access[]): Promise<void> {
    const server = await authority.issue([name], lifeMs);
    const files = { "ca.pem": bundle(trusted), "cert.pem": server.cert, "key.pem": server.key };
    for (const [of, text] of Object.entries(files)) await writeFile(file(of), text, { mode: 0o600 });
    running = cluster.run(program, [
      `--data-dir=${file("data")}`,
      "--unsafe-no-fsync",
      "--log-level=warn",
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      "--listen-peer-urls=http://127.0.0.1:2480",
      "--initial-advertise-peer-urls=http://127.0.0.1:2480",
      "--initial-cluster=default=http://127.0.0.1:2480",
      "--client-cert-auth",
      `--trusted-ca-file=${file("ca.pem")}`,
      `--cert-file=${file("cert.pem")}`,
      `--key-file=${file("key.pem")}`,
    ]);
    root?.close();
    const asRoot = connectAs({ authority, own: await authority.issue(["root"], lifeMs) });
    root = asRoot;
    await waitUntil(
      "the etcd answers",
      () =>
        asRoot
          .get("nothing")
          .exists()
          .then(
            () => true,
            () => false,
          ),
      Boolean,
      60_000,
    );
  }
  async function stop(): Promise<void> {
    await cluster.run("pkill", ["--full", "--signal", "KILL", `^${program} --data-dir=${file("data")} `]);
    await running;
  }

  await start(first, [first, next]);
  stack.defer(async () => {
    root?.close();
    await stop();
  });
  const { auth } = rootClient();
  await auth.userAdd({ name: "root", password: "root-password" });
  await auth.roleAdd({ name: "root" });
  await auth.userGrantRole({ user: "root", role: "root" });
  await auth.userAdd({ name: user, password: first.password });
  await auth.roleAdd({ name: user });
  const perm = { permType: "Readwrite" as const, key: Buffer.from(prefix), range_end: Buffer.from(after(prefix)) };
  await auth.roleGrantPermission({ name: user, perm });
  await auth.userGrantRole({ user, role: user });
  await auth.authEnable();
  const parts = stack.move();

  function rootClient(): Etcd3 {
    if (root === undefined) throw new Error("the etcd is not running");
    return root;
  }

  return {
    values: [
      "etcd.enabled=false",
      `etcd.endpoints={${cluster.address}:${port}}`,
      `etcd.prefix=${prefix}`,
      "etcd.tls=true",
      `etcd.serverName=${name}`,
      `etcd.secretName=${secretName}`,
      "etcd.clientCertificate=always",
      `etcd.user=${user}`,
    ],
    secret: secretOf(first, first.authority.cert),
    nextSecret: secretOf(next, bundle([first, next])),
    async renew() {
      await rootClient().auth.userChangePassword({ name: user, password: next.password });
      await stop();
      await start(next, [next]);
    },
    async refusesFirst() {
      const shown = [connectAs({ authority: next.authority, own: first.own }, next.password), connectAs(next, first.password)];
      const refusals = shown.map((client) =>
        client
          .get(`${prefix}/nothing`)
          .exists()
          .then(
            () => false,
            () => true,
          )
          .finally(() => client.close()),
      );
      return (await Promise.all(refusals)).every(Boolean);
    },
    keys: async (from) => await rootClient().getAll().prefix(`${prefix}${from}`).keys(),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

async function createAccess(password: string): Promise<Access> {
  const authority = await createAuthority(`authority of ${password}`, lifeMs);
  // The certificate lets a connection in; who it is says the password.
  return { authority, own: await authority.issue(["nobody"], lifeMs), password };
}

function secretOf({ own, password }: Access, ca: string): string {
  const stringData = { "ca.crt": ca, "tls.crt": own.cert, "tls.key": own.key, password };
  return JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name: secretName }, stringData });
}

function bundle(accesses: readonly Access[]): string {
  return accesses.map(({ authority }) => authority.cert).join("\n");
}

/** The first key that does not begin so. */
function after(text: string): string {
  return `${text.slice(0, -1)}${String.fromCharCode(text.charCodeAt(text.length - 1) + 1)}`;
}
