// Stores whose servers prove themselves by an authority of the entry's, and want a certificate of the client.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { type Authority, createAuthority, type KeyPair } from "#platform/tls/authority.ts";
import { openPullBench, type PullBench } from "../testing/bench.ts";

const hourMs = 3_600_000;
const never = new AbortController().signal;

describe("certificates of an entry", { timeout: 60_000 }, () => {
  let authority: Authority;
  let own: KeyPair;
  let bench: PullBench;
  let port = 0;
  const callers: (string | undefined)[] = [];
  const stack = new AsyncDisposableStack();

  before(async () => {
    authority = await createAuthority("test", hourMs);
    own = await authority.issue(["the-adapter"], hourMs);
    const { cert, key } = await authority.issue(["127.0.0.1"], hourMs);
    const server = createServer(
      { cert, key, ca: authority.cert, requestCert: true, rejectUnauthorized: false },
      (request, response) => {
        const { subject } = (request.socket as TLSSocket).getPeerCertificate();
        const name = (request.socket as TLSSocket).authorized ? subject?.CN : undefined;
        callers.push(typeof name === "string" ? name : undefined);
        if (callers.at(-1) === undefined) return void response.writeHead(403).end();
        return void response.writeHead(200, { "content-length": 5, etag: '"1"' }).end("model");
      },
    );
    const { promise, resolve } = Promise.withResolvers<void>();
    server.listen(0, "127.0.0.1", resolve);
    await promise;
    port = (server.address() as AddressInfo).port;
    stack.defer(() => {
      server.closeAllConnections();
      server.close();
    });
    bench = stack.use(await openPullBench());
  });
  after(() => stack.disposeAsync());

  const pull = async (
    entry: object,
  ): Promise<{ readonly path?: string; readonly reason?: string; readonly failure?: string }> => {
    const url = `https://127.0.0.1:${port}`;
    await bench.setEntry("mine", { type: "http", url, ...entry });
    const pulled = await bench.puller.pull({ storageUri: "storage:///m.onnx", storageKey: "mine" }, never);
    return pulled.kind === "ok" ? { path: pulled.path } : pulled;
  };

  test("are believed, and shown to the server", async () => {
    const { path, reason } = await pull({ certificate: authority.cert, client_certificate: own.cert, client_key: own.key });
    assert.ok(path !== undefined, String(reason));
    assert.equal(await readFile(path, "utf8"), "model");
    assert.equal(callers.at(-1), "the-adapter");
  });

  test("without them the server is not believed, or does not let in; and one that is none is told as such", async () => {
    const stranger = await pull({});
    assert.equal(stranger.failure, "storage", String(stranger.reason));
    const nobody = await pull({ certificate: authority.cert });
    assert.equal(nobody.failure, "storage", String(nobody.reason));
    const broken = await pull({ certificate: "no certificate", client_certificate: own.cert, client_key: own.key });
    assert.equal(broken.failure, "storage", String(broken.reason));
    assert.ok(!String(broken.reason).includes(own.key.slice(40, 80)));
  });
});
