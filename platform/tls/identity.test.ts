import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Metadata, Server, status } from "@grpc/grpc-js";
import { GRPCInferenceService } from "#proto/gen/inference/open_inference_pb.ts";
import { addService, bindServer, closeServer, createClient } from "../grpc.ts";
import { silentLog } from "../log.ts";
import { openRunFolder, type RunFolder } from "../tempdir.ts";
import { waitFor } from "../testing.ts";
import { type Authority, createAuthority, type IdentityFiles, writeIdentity } from "./authority.ts";
import { channelOptions, type Identity, openIdentity, type Role, roleName } from "./identity.ts";

const hour = 3_600_000;

describe("peers over mutual TLS", () => {
  let folder: RunFolder;
  let authority: Authority;
  let server: Server;
  let serving: Identity;
  let port: number;

  async function identity(
    name: string,
    by: Authority,
    role: string,
    refreshMs = 50,
  ): Promise<Identity & { files: IdentityFiles }> {
    const files = await writeIdentity(join(folder.path, name), by.cert, await by.issue([role, "127.0.0.1"], hour));
    const opened = await openIdentity({ caFile: files.ca, certFile: files.cert, keyFile: files.key, refreshMs, log: silentLog });
    return Object.assign(opened, { files });
  }

  async function call(as: Identity | undefined, expect: Role = "adapter"): Promise<status | undefined> {
    using client = createClient(GRPCInferenceService, `127.0.0.1:${port}`, as?.channelCredentials(), {
      channel: channelOptions(expect),
    });
    try {
      await client.serverLive({ $typeName: "inference.ServerLiveRequest" }, { timeoutMs: 20_000, metadata: new Metadata() });
      return status.OK;
    } catch (error) {
      return (error as { code?: status }).code;
    }
  }

  before(async () => {
    folder = await openRunFolder();
    authority = await createAuthority("warmpath test", hour);
    serving = await identity("adapter", authority, roleName("adapter"));
    server = new Server();
    addService(server, GRPCInferenceService, {
      serverLive: (_call, done) => done(null, { $typeName: "inference.ServerLiveResponse", live: true }),
    });
    port = await bindServer(server, "127.0.0.1:0", serving.serverCredentials(["gateway"]));
  });
  after(async () => {
    await closeServer(server, 1_000);
    serving[Symbol.dispose]();
    await folder[Symbol.asyncDispose]();
  });

  test("a gateway may call an adapter", async () => {
    using gateway = await identity("gateway", authority, roleName("gateway"));
    assert.equal(await call(gateway), status.OK);
  });

  test("a peer of another role is refused, whatever CA it has", async () => {
    using adapter = await identity("other-adapter", authority, roleName("adapter"));
    assert.equal(await call(adapter), status.PERMISSION_DENIED);
    using fake = await identity("fake", authority, `${roleName("gateway")}.example.com`);
    assert.equal(await call(fake), status.PERMISSION_DENIED);
  });

  test("a gateway of another CA, or without a certificate, gets no connection", async () => {
    using stranger = await identity("stranger", await createAuthority("stranger", hour), roleName("gateway"));
    assert.equal(await call(stranger), status.UNAVAILABLE);
    assert.equal(await call(undefined), status.UNAVAILABLE);
  });

  test("a gateway does not talk to who cannot prove to be an adapter", async () => {
    using gateway = await identity("gateway-2", authority, roleName("gateway"));
    assert.equal(await call(gateway, "controller"), status.UNAVAILABLE);
  });

  test("files that were renewed are taken up, half-written ones are not", async () => {
    const gateway = await identity("renewed", authority, roleName("adapter"));
    assert.equal(await call(gateway), status.PERMISSION_DENIED);
    // As it is when a mounted secret is written anew.
    await writeIdentity(join(folder.path, "renewed"), authority.cert, await authority.issue([roleName("gateway")], hour));
    await waitFor(async () => (await call(gateway)) === status.OK, { timeoutMs: 30_000 });
    await writeFile(gateway.files.cert, "-----BEGIN");
    for (let at = 0; at < 5; at++) assert.equal(await call(gateway), status.OK);
    gateway[Symbol.dispose]();
  });

  const unusable: readonly (readonly [string, Partial<IdentityFiles>, RegExp])[] = [
    ["no such file", { cert: "absent.pem" }, /absent\.pem cannot be read \(ENOENT\)/],
    ["no PEM", { ca: "broken.pem" }, /broken\.pem is no PEM/],
    ["another pair's key", { key: "../adapter/key.pem" }, /is not the key of/],
  ];
  for (const [what, change, reason] of unusable) {
    test(`says what is wrong at the start: ${what}`, async () => {
      const base = join(folder.path, "broken");
      const files = await writeIdentity(base, authority.cert, await authority.issue(["x"], hour));
      await writeFile(join(base, "broken.pem"), "nonsense");
      const named = Object.fromEntries(Object.entries(change).map(([key, name]) => [key, join(base, name)]));
      const { ca, cert, key } = { ...files, ...named };
      await assert.rejects(openIdentity({ caFile: ca, certFile: cert, keyFile: key, log: silentLog }), reason);
    });
  }
});
