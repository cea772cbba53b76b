import assert from "node:assert/strict";
import { test } from "node:test";
import { flagsOfTarget, parseRegistryTarget, type RegistryOptions } from "./target.ts";

test("a path is a file, whatever it is called", () => {
  for (const registry of ["registry.db", "/var/lib/etcd", "./etcd:2379"])
    assert.deepEqual(parseRegistryTarget({ registry }), { kind: "embedded", file: registry });
});

const addresses: readonly (readonly [registry: string, hosts: readonly string[], prefix: string])[] = [
  ["etcd://a:2379/fleet", ["a:2379"], "/fleet"],
  ["etcd://a", ["a:2379"], "/warmpath"],
  ["etcd://a/", ["a:2379"], "/warmpath"],
  ["etcd://a,b:1,[::1]:2/x/y/", ["a:2379", "b:1", "[::1]:2"], "/x/y"],
  ["etcds://a.b/x", ["a.b:2379"], "/x"],
];

for (const [registry, hosts, prefix] of addresses) {
  test(`${registry} leads to ${hosts.join()} and ${prefix}`, () => {
    const tls = registry.startsWith("etcds")
      ? { caFile: undefined, certFile: undefined, keyFile: undefined, serverName: undefined }
      : undefined;
    const target = parseRegistryTarget({ registry });
    assert.deepEqual(target, { kind: "etcd", hosts, prefix, tls, login: undefined });
    const flags = flagsOfTarget(target);
    assert.deepEqual(parseRegistryTarget({ registry: flags["registry"] ?? "" }), target);
  });
}

const refused: readonly (readonly [options: RegistryOptions, message: RegExp])[] = [
  [{ registry: "http://a" }, /begins with etcd:\/\/ or etcds:\/\/, or is a file; not http:/],
  [{ registry: "etcd://" }, /"" is no HOST:PORT/],
  [{ registry: "etcd://a:0" }, /"a:0" is no HOST:PORT/],
  [{ registry: "etcd://a:99999" }, /is no HOST:PORT/],
  [{ registry: "etcd://a,,b" }, /"" is no HOST:PORT/],
  [{ registry: "etcd://user:secret@a" }, /names no user: use --etcd-user/],
  [{ registry: "etcd://a/b c" }, /a prefix is made of/],
  [{ registry: "etcd://a//b" }, /a prefix is made of/],
  [{ registry: `etcd://${"a,".repeat(20)}a` }, /more than 16 members/],
  [{ registry: "f", etcdUser: "u" }, /need --registry etcd:/],
  [{ registry: "etcd://a", etcdCa: "ca" }, /need --registry etcds:/],
  [{ registry: "etcds://a", etcdCert: "c" }, /--etcd-cert and --etcd-key go together/],
  [{ registry: "etcds://10.0.0.1" }, /is an address and no name: say with --etcd-server-name/],
  [{ registry: "etcds://a,[::1]:5" }, /is an address and no name/],
  [{ registry: "etcd://a", etcdUser: "u" }, /--etcd-user and --etcd-password-file go together/],
];

for (const [options, message] of refused) {
  test(`refused: ${JSON.stringify(options)}`, () =>
    assert.throws(() => parseRegistryTarget(options), { name: "UsageError", message }));
}
