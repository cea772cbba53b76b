// TLS in a real fleet: on the ports by Envoy itself, server and mutual, renewed without a dropped connection; between the
// processes by identities that strangers do not have.
import assert from "node:assert/strict";
import type { X509Certificate } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { Client } from "undici";
import { createClient } from "#platform/grpc.ts";
import { silentLog } from "#platform/log.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { parsePodRecord, podPrefix } from "#platform/registry/records.ts";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { type Authority, createAuthority, loadAuthority, writeIdentity } from "#platform/tls/authority.ts";
import { channelOptions, type Identity, openIdentity } from "#platform/tls/identity.ts";
import { GatewayMessageSchema, Link } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { createAsker } from "../harness/models.ts";

const hourMs = 3_600_000;
const model = "iris-t0001";

describe("a fleet under TLS", () => {
  let folder: RunFolder;
  let clients: Authority;
  let client: { cert: Buffer; key: Buffer };
  let fleet: TestFleet;
  let ca: Buffer;

  before(async () => {
    folder = await openRunFolder();
    clients = await createAuthority("clients", hourMs);
    const clientCaFile = join(folder.path, "clients.pem");
    await writeFile(clientCaFile, clients.cert);
    const { cert, key } = await clients.issue(["client-a"], hourMs);
    client = { cert: Buffer.from(cert), key: Buffer.from(key) };
    fleet = await openFleet({ pods: 1, tls: { clientCaFile, client } });
    ca = await readFile(join(fleet.stateFolder, "tls", "server", "ca.pem"));
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  const ports = (): readonly number[] => [Number(new URL(fleet.restUrl).port), Number(fleet.grpcTarget.split(":")[1])];

  test("misses and hits are answered over REST and gRPC", async () => {
    assert.deepEqual(await fleet.asker.ask(model, "rest"), { miss: true });
    await waitFor(async () => !(await fleet.asker.ask(model, "rest")).miss, { timeoutMs: 30_000 });
    assert.deepEqual(await fleet.asker.ask(model, "grpc"), { miss: false });
  });

  test("a client without a certificate, or of another authority, gets no connection", async () => {
    const stranger = await (await createAuthority("strangers", hourMs)).issue(["client-a"], hourMs);
    for (const port of ports()) {
      for (const own of [{}, stranger]) assert.equal(await handshake(port, { ca, ...own }), undefined);
      assert.ok((await handshake(port, { ca, ...client })) !== undefined);
    }
  });

  test("plain text is no way in", async () => {
    const plain = new Client(fleet.restUrl.replace("https", "http"));
    await assert.rejects(plain.request({ method: "GET", path: "/v2/health/live" }));
    await plain.destroy();
  });

  test("old versions of TLS are refused", async () => {
    for (const port of ports()) {
      assert.equal(await handshake(port, { ca, ...client, maxVersion: "TLSv1.1", minVersion: "TLSv1" }), undefined);
    }
  });

  test("a renewed certificate is shown to new connections, and those before it live on", async () => {
    const [port = 0] = ports();
    const kept = new Client(fleet.restUrl, { connect: { ca, ...client }, keepAliveTimeout: hourMs, pipelining: 1 });
    let connections = 0;
    kept.on("connect", () => {
      connections += 1;
    });
    const live = async (): Promise<number> => {
      const { statusCode, body } = await kept.request({ method: "GET", path: "/v2/health/live" });
      await body.dump();
      return statusCode;
    };
    assert.equal(await live(), 200);
    const was = await handshake(port, { ca, ...client });
    const authority = await ownAuthority();
    const renewed = await authority.issue(["localhost", "127.0.0.1"], hourMs);
    await writeIdentity(join(fleet.stateFolder, "tls", "server"), authority.cert, renewed);
    await waitFor(async () => (await handshake(port, { ca, ...client }))?.serialNumber !== was?.serialNumber, {
      timeoutMs: 30_000,
    });
    assert.equal(await live(), 200);
    assert.equal(connections, 1);
    await kept.destroy();
  });

  test("the management API speaks TLS alone, by the authority of the state folder", async () => {
    assert.match(fleet.adminUrl, /^https:/);
    assert.equal((await fleet.manage("GET", `/api/v1/models/${model}`)).status, 200);
    await assert.rejects(fetch(`${fleet.adminUrl}/api/v1/pods`));
    await assert.rejects(fetch(`${fleet.adminUrl.replace("https", "http")}/api/v1/pods`));
  });

  test("a stranger finds no Link to an adapter", async () => {
    await using registry = await openRegistry({ kind: "embedded", file: fleet.registryFile });
    const { entries } = await registry.list(podPrefix, { limit: 10 });
    const pod = parsePodRecord(entries[0]!.value);
    assert.ok(pod.kind === "ok");
    const attach = async (identity: Identity | undefined): Promise<string> => {
      using caller = createClient(Link, pod.value.linkAddress, identity?.channelCredentials(), {
        channel: identity === undefined ? {} : channelOptions("adapter"),
      });
      const stream = caller.attach({ timeoutMs: 10_000 });
      stream.on("error", () => undefined);
      stream.write(create(GatewayMessageSchema, { message: { case: "hello", value: { gatewayId: "stranger" } } }));
      const { promise, resolve } = Promise.withResolvers<string>();
      stream.once("data", () => resolve("attached"));
      stream.once("status", ({ code }) => resolve(status[code] ?? ""));
      const outcome = await promise;
      stream.cancel();
      return outcome;
    };
    const identityOf = async (name: string, by: Authority): Promise<Identity> => {
      const files = await writeIdentity(join(folder.path, name), by.cert, await by.issue(["gateway.warmpath"], hourMs));
      return await openIdentity({ caFile: files.ca, certFile: files.cert, keyFile: files.key, log: silentLog });
    };
    using stranger = await identityOf("stranger", clients);
    using friend = await identityOf("friend", await ownAuthority());
    assert.deepEqual(
      [await attach(undefined), await attach(stranger), await attach(friend)],
      ["UNAVAILABLE", "UNAVAILABLE", "attached"],
    );
  });

  async function ownAuthority(): Promise<Authority> {
    const names = ["authority.pem", "authority-key.pem"];
    const [cert, key] = await Promise.all(names.map((name) => readFile(join(fleet.stateFolder, "tls", name), "utf8")));
    return await loadAuthority({ cert: cert!, key: key! });
  }
});

test("ports that answer plain text beside TLS answer both, over REST and gRPC, and neither's hits cost more", async () => {
  await using fleet = await openFleet({ pods: 1, tls: { plainText: true } });
  await fleet.whenServing();
  await using plain = createAsker({
    restUrl: fleet.restUrl.replace("https", "http"),
    grpcTarget: fleet.grpcTarget,
    oracle: fleet.oracle,
    connections: 8,
  });
  assert.deepEqual(await plain.ask(model, "rest"), { miss: true });
  await waitFor(async () => !(await fleet.asker.ask(model, "rest")).miss, { timeoutMs: 60_000 });
  const before = (await fleet.stats()).javascriptRequests;
  for (const asker of [plain, fleet.asker])
    for (const wire of ["rest", "grpc"] as const) assert.deepEqual(await asker.ask(model, wire), { miss: false });
  assert.equal((await fleet.stats()).javascriptRequests, before);
  const stranger = await createAuthority("strangers", hourMs);
  for (const port of [Number(new URL(fleet.restUrl).port), Number(fleet.grpcTarget.split(":")[1])]) {
    assert.equal(await handshake(port, { ca: Buffer.from(stranger.cert) }), undefined);
    const ca = await readFile(join(fleet.stateFolder, "tls", "server", "ca.pem"));
    assert.ok((await handshake(port, { ca })) !== undefined);
  }
});

interface Handshake {
  readonly ca: Buffer;
  readonly cert?: Buffer | string;
  readonly key?: Buffer | string;
  readonly minVersion?: "TLSv1";
  readonly maxVersion?: "TLSv1.1";
}

/** The server's certificate; undefined when there is no connection. With TLS 1.3 a refusal comes after the handshake. */
async function handshake(port: number, options: Handshake): Promise<X509Certificate | undefined> {
  const { promise, resolve } = Promise.withResolvers<X509Certificate | undefined>();
  const socket = connect({ host: "127.0.0.1", port, servername: "localhost", ALPNProtocols: ["http/1.1"], ...options });
  let shown: X509Certificate | undefined;
  socket.once("secureConnect", () => {
    shown = socket.getPeerX509Certificate();
    socket.write("GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
  });
  socket.once("data", () => resolve(shown));
  socket.on("error", () => resolve(undefined));
  socket.on("close", () => resolve(undefined));
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}
