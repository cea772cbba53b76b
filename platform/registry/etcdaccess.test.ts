// Who etcd lets in: users and passwords, certificates of an own authority, both changed while in use.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { createEtcdClient, openEtcd } from "#test/harness/etcd.ts";
import { silentLog } from "../log.ts";
import { openRunFolder } from "../tempdir.ts";
import { createRecordingLog, waitFor } from "../testing.ts";
import { createAuthority, writeIdentity } from "../tls/authority.ts";
import { EtcdClient } from "./etcdclient.ts";
import { openRegistry } from "./open.ts";
import { type EtcdTarget, parseRegistryTarget } from "./target.ts";

const patient = { timeoutMs: 60_000 };
const folder = await openRunFolder();
after(() => folder[Symbol.asyncDispose]());

test("a user sees the own prefix only; tokens and passwords may change; no secret is told", async () => {
  await using server = await openEtcd();
  using etcd = createEtcdClient(server);
  await etcd.auth.userAdd({ name: "root", password: "root-secret" });
  await etcd.auth.roleAdd({ name: "root" });
  await etcd.auth.userGrantRole({ user: "root", role: "root" });
  await etcd.auth.userAdd({ name: "fleet", password: "first-secret" });
  await etcd.auth.roleAdd({ name: "fleet" });
  await etcd.auth.roleGrantPermission({
    name: "fleet",
    perm: { permType: "Readwrite", key: Buffer.from("/fleet"), range_end: Buffer.from("/fleeu") },
  });
  await etcd.auth.userGrantRole({ user: "fleet", role: "fleet" });
  await etcd.auth.authEnable();

  const passwordFile = join(folder.path, "password");
  writeFileSync(passwordFile, "first-secret\n");
  const login = { etcdUser: "fleet", etcdPasswordFile: passwordFile };
  await using registry = await openRegistry(
    parseRegistryTarget({ registry: `etcd://${server.address}/fleet`, ...login }),
    silentLog,
  );
  assert.equal((await registry.put("/a", "1")).kind, "ok");
  const stop = new AbortController();
  const seen: string[] = [];
  const page = await registry.list("/", { limit: 10 });
  void (async () => {
    for await (const batch of registry.watch("/", page.revision, stop.signal))
      if (batch.kind === "changes") seen.push(...batch.changes.map(({ key }) => key));
  })();
  const lease = await registry.openLease(3_000);
  assert.equal((await registry.put("/pods/a", "1", { lease })).kind, "ok");

  await using stranger = await openRegistry(
    parseRegistryTarget({ registry: `etcd://${server.address}/other`, ...login }),
    silentLog,
  );
  await assert.rejects(stranger.put("/a", "1"), { code: "registry-unavailable", message: /refuses: .*permission denied/ });
  await using anybody = await openRegistry(parseRegistryTarget({ registry: `etcd://${server.address}/fleet` }), silentLog);
  await assert.rejects(anybody.get("/a"), { code: "registry-unavailable" });

  // Tokens live in etcd's memory: after a restart the old one is worth nothing.
  await server.kill();
  await server.start();
  await waitFor(async () => (await registry.get("/a").catch(() => undefined))?.value === "1", patient);
  assert.equal((await registry.put("/b", "2")).kind, "ok");
  await waitFor(() => seen.includes("/b"), patient);

  await using root = await openRegistry(
    parseRegistryTarget({ registry: `etcd://${server.address}/x`, etcdUser: "root", etcdPasswordFile: rootPassword() }),
    silentLog,
  );
  assert.equal((await root.put("/a", "1")).kind, "ok");
  writeFileSync(passwordFile, "wrong-secret");
  await using wrong = await openRegistry(
    parseRegistryTarget({ registry: `etcd://${server.address}/fleet`, ...login }),
    silentLog,
  );
  await assert.rejects(wrong.get("/a"), (error: Error) => {
    assert.match(error.message, /authentication failed/);
    assert.doesNotMatch(`${error.message} ${error.stack} ${JSON.stringify(error)}`, /wrong-secret/);
    return true;
  });
  stop.abort();
});

function rootPassword(): string {
  const file = join(folder.path, "root-password");
  writeFileSync(file, "root-secret");
  return file;
}

test("TLS with an own authority and client certificates, which are read again when they change", async () => {
  const dayMs = 86_400_000;
  const authority = await createAuthority("fleet authority", dayMs);
  const stranger = await createAuthority("another authority", dayMs);
  const names = ["etcd.test"] as const;
  const serverFiles = await writeIdentity(join(folder.path, "server"), authority.cert, await authority.issue(names, dayMs));
  const clientFolder = join(folder.path, "client");
  const clientFiles = await writeIdentity(clientFolder, authority.cert, await authority.issue(["gateway"], dayMs));
  await using server = await openEtcd({
    tls: { certFile: serverFiles.cert, keyFile: serverFiles.key, clientCaFile: serverFiles.ca },
  });
  const registry = `etcds://${server.address}/fleet`;
  const target = parseRegistryTarget({
    registry,
    etcdCa: clientFiles.ca,
    etcdCert: clientFiles.cert,
    etcdKey: clientFiles.key,
    etcdServerName: "etcd.test",
  }) as EtcdTarget;
  await using inside = await openRegistry(target, silentLog);
  assert.equal((await inside.put("/a", "1")).kind, "ok");

  for (const options of [
    { registry, etcdCa: clientFiles.ca, etcdServerName: "etcd.test" },
    { registry, etcdServerName: "etcd.test" },
    { registry, etcdCa: clientFiles.ca, etcdCert: clientFiles.cert, etcdKey: clientFiles.key, etcdServerName: "other.test" },
    { registry: `etcd://${server.address}/fleet` },
  ]) {
    await using outside = await openRegistry(parseRegistryTarget(options), silentLog);
    await assert.rejects(outside.get("/a"), { code: "registry-unavailable" }, JSON.stringify(options));
  }

  // A client whose certificate is no good any more, and then good again: without being opened anew.
  const log = createRecordingLog();
  using client = new EtcdClient(target, log);
  const ask = (): Promise<unknown> =>
    client.read((etcd, options) => etcd.kv.range({ key: Buffer.from("/fleet/a") }, options), 3_000);
  await ask();
  await writeIdentity(clientFolder, authority.cert, await stranger.issue(["gateway"], dayMs));
  client.reloadWhenChanged();
  await assert.rejects(ask(), { code: "registry-unavailable" });
  writeFileSync(clientFiles.cert, "not a certificate");
  client.reloadWhenChanged();
  await assert.rejects(ask(), { code: "registry-unavailable" });
  await writeIdentity(clientFolder, authority.cert, await authority.issue(["gateway"], dayMs));
  client.reloadWhenChanged();
  await ask();
  assert.ok(log.lines.some(({ message }) => message.includes("read anew")));
  // The registry that was opened before looks by itself.
  await waitFor(async () => (await inside.get("/a").catch(() => undefined))?.value === "1", patient);
});

test("files that are not there are named before anything is connected", async () => {
  const registry = "etcds://localhost:1/x";
  for (const [options, message] of [
    [{ registry, etcdCa: "/nowhere/ca.pem" }, /--etcd-ca: .*\/nowhere\/ca.pem/],
    [{ registry, etcdUser: "u", etcdPasswordFile: "/nowhere/password" }, /--etcd-password-file: .*\/nowhere\/password/],
  ] as const) {
    await assert.rejects(openRegistry(parseRegistryTarget(options), silentLog), { name: "StartupError", message });
  }
});
