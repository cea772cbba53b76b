import assert from "node:assert/strict";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { nodeAnywhere } from "./children.ts";
import { askAtOnce } from "./parked.ts";
import { askEach } from "./rawclient.ts";
import { openUpstream } from "./upstream.ts";

const signal = AbortSignal.timeout(10_000);
const host = "127.0.0.1";

test("each request is asked once, whatever the number of clients", async () => {
  await using upstream = await openUpstream(nodeAnywhere);
  const requests = Array.from({ length: 50 }, (_, at) => ({ path: `/${at}`, body: "{}" }));
  for (const clients of [1, 8, 60]) {
    const { tookMs, failed } = await askEach(upstream, requests, clients, signal);
    assert.equal(tookMs.length, 50);
    assert.ok(tookMs.every((ms) => ms !== undefined && ms > 0));
    assert.equal(failed, 0);
  }
});

test("where nobody listens the asking ends and says why; an abort ends it too", async () => {
  const upstream = await openUpstream(nodeAnywhere);
  const { port } = upstream;
  await upstream[Symbol.asyncDispose]();
  const requests = [{ path: "/", body: "" }];
  const { failed, reasons } = await askEach({ host, port }, requests, 1, signal);
  assert.equal(failed, 1);
  assert.match(reasons[0] ?? "", /ECONNREFUSED/);
  await assert.rejects(askEach({ host, port }, requests, 1, AbortSignal.abort(new Error("enough"))), /enough/);
});

test("requests asked at once are all under way before the first is answered; those that fail are counted apart", async () => {
  const waiting: (() => void)[] = [];
  const server = createHttp2Server();
  server.on("request", (request, response) => {
    waiting.push(() => response.writeHead(request.url === "/bad" ? 404 : 200).end());
    if (waiting.length === 20) for (const answer of waiting) answer();
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, host, resolve);
  await promise;
  try {
    const { port } = server.address() as AddressInfo;
    const requests = Array.from({ length: 20 }, (_, at) => ({ path: at < 3 ? "/bad" : "/good", body: "{}" }));
    const { answeredMs, ...asked } = await askAtOnce({ host, port }, requests, signal);
    assert.deepEqual(asked, { answered: 17, failed: 3, reasons: ["status 404"] });
    assert.equal(answeredMs.length, 17);
    assert.deepEqual(
      answeredMs,
      answeredMs.toSorted((a, b) => a - b),
    );
  } finally {
    server.close();
  }
});
