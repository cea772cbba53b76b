// The management API over TLS, as its callers meet it: on its own port and on ModelMesh's.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect } from "node:tls";
import { credentials, Metadata, status } from "@grpc/grpc-js";
import { Client, request } from "undici";
import { createClient } from "#platform/grpc.ts";
import { silentLog } from "#platform/log.ts";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { createRecordingLog, waitFor } from "#platform/testing.ts";
import { type Authority, createAuthority, type IdentityFiles, writeIdentity } from "#platform/tls/authority.ts";
import { openPems, type PemFiles } from "#platform/tls/pems.ts";
import { ModelMesh } from "#proto/gen/mmesh/model_mesh_pb.ts";
import { openAdminTls } from "./opencallers.ts";
import { type AdminBench, openAdminBench } from "./testing.ts";

const hourMs = 3_600_000;

describe("the management API over TLS", () => {
  let folder: RunFolder;
  let authority: Authority;
  let files: IdentityFiles;
  let tls: PemFiles;
  let bench: AdminBench;
  let url: string;

  const write = async (): Promise<IdentityFiles> =>
    await writeIdentity(join(folder.path, "tls"), authority.cert, await authority.issue(["127.0.0.1", "localhost"], hourMs));
  const shown = async (): Promise<string> => {
    const socket = connect({ host: "127.0.0.1", port: Number(new URL(url).port), ca: authority.cert });
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    socket.once("secureConnect", () => resolve(socket.getPeerX509Certificate()?.serialNumber ?? ""));
    socket.once("error", reject);
    try {
      return await promise;
    } finally {
      socket.destroy();
    }
  };

  before(async () => {
    folder = await openRunFolder();
    authority = await createAuthority("management", hourMs);
    files = await write();
    tls = await openPems({ certFile: files.cert, keyFile: files.key, refreshMs: 50, log: silentLog });
    bench = await openAdminBench({ pods: 1, tls });
    // It does not know that its server speaks TLS.
    url = (await bench.app.listen({ host: "127.0.0.1", port: 0 })).replace("http:", "https:");
  });
  after(async () => {
    await bench?.[Symbol.asyncDispose]();
    tls?.[Symbol.dispose]();
    await folder[Symbol.asyncDispose]();
  });

  test("who trusts its authority is answered; who does not, or speaks plain text, is not", async () => {
    await using stack = new AsyncDisposableStack();
    const client = stack.adopt(new Client(url, { connect: { ca: authority.cert } }), (it) => it.destroy());
    const { statusCode, body } = await client.request({ method: "GET", path: "/api/v1/pods" });
    assert.equal(statusCode, 200);
    assert.match(await body.text(), /pod-0/);
    await assert.rejects(request(`${url}/api/v1/pods`), /unable to verify|self.signed/);
    await assert.rejects(request(`${url.replace("https", "http")}/api/v1/pods`));
  });

  test("its own page may change things, that of another scheme may not", async () => {
    await using stack = new AsyncDisposableStack();
    const client = stack.adopt(new Client(url, { connect: { ca: authority.cert } }), (it) => it.destroy());
    const { host } = new URL(url);
    const from = async (origin: string): Promise<number> => {
      const { statusCode, body } = await client.request({
        method: "PUT",
        path: "/api/v1/models/page",
        headers: { origin, host, "content-type": "application/json" },
        body: JSON.stringify({ format: "onnx", storageUri: "file:///a.onnx" }),
      });
      await body.dump();
      return statusCode;
    };
    assert.equal(await from(`http://${host}`), 403);
    assert.equal(await from(`https://${host}`), 201);
  });

  test("a renewed certificate is shown to new connections, and those before it live on; ModelMesh's port follows", async () => {
    await using stack = new AsyncDisposableStack();
    const kept = stack.adopt(
      new Client(url, { connect: { ca: authority.cert }, keepAliveTimeout: hourMs, pipelining: 1 }),
      (it) => it.destroy(),
    );
    let connections = 0;
    kept.on("connect", () => {
      connections += 1;
    });
    const live = async (): Promise<number> => {
      const { statusCode, body } = await kept.request({ method: "GET", path: "/api/v1/pods" });
      await body.dump();
      return statusCode;
    };
    assert.equal(await live(), 200);
    const was = await shown();
    await write();
    await waitFor(async () => (await shown()) !== was, { timeoutMs: 60_000 });
    assert.deepEqual([await live(), connections], [200, 1]);
    const code = async (ca: string): Promise<status | undefined> => {
      using caller = createClient(ModelMesh, bench.modelmeshTarget, credentials.createSsl(Buffer.from(ca)), {
        // An address is no name that TLS could ask for.
        channel: { "grpc.ssl_target_name_override": "localhost" },
      });
      try {
        const request = { $typeName: "mmesh.GetStatusRequest", modelId: "page" } as const;
        await caller.getModelStatus(request, { timeoutMs: 30_000, metadata: new Metadata() });
        return status.OK;
      } catch (error) {
        return (error as { code?: status }).code;
      }
    };
    assert.equal(await code(authority.cert), status.OK);
    assert.equal(await code((await createAuthority("stranger", hourMs)).cert), status.UNAVAILABLE);
  });

  test("certificate and key go together, and tokens in plain text beyond this machine are warned of", async () => {
    await assert.rejects(openAdminTls({ adminHost: "127.0.0.1", adminCert: "a.pem" }, silentLog, false), /go together/);
    const warned = async (adminHost: string, asks: boolean): Promise<boolean> => {
      const log = createRecordingLog();
      assert.equal(await openAdminTls({ adminHost }, log, asks), undefined);
      return log.lines.some((line) => JSON.stringify(line).includes("plain text"));
    };
    assert.deepEqual(
      [await warned("127.0.0.1", true), await warned("0.0.0.0", false), await warned("0.0.0.0", true)],
      [false, false, true],
    );
  });
});
