import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer as createGrpcServer, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { openRunFolder } from "#platform/tempdir.ts";
import { createMessageCutter } from "./http1.ts";
import type { LoadPlan } from "./plan.ts";
import { openLoadProcess } from "./process.ts";

const never = new AbortController().signal;

async function listen(server: Pick<Server, "listen" | "address">): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  return (server.address() as AddressInfo).port;
}

function plan(port: number, more: Partial<LoadPlan> = {}): LoadPlan {
  return {
    wire: "rest",
    requests: "rest",
    host: "127.0.0.1",
    port,
    concurrency: 3,
    settleMs: 20,
    measureMs: 100,
    watchedPids: [process.pid],
    ...more,
  };
}

test("load over REST and gRPC is counted, failures apart; an unknown list and an abort are refused", async () => {
  await using stack = new AsyncDisposableStack();
  const { path } = stack.use(await openRunFolder());
  const file = join(path, "requests.json");
  await writeFile(
    file,
    JSON.stringify({ rest: [{ path: "/a", body: "{}" }], bad: [{ path: "/bad", body: "" }], grpc: [{ path: "/s/m", body: "" }] }),
  );
  const rest = createServer((socket) => {
    const cutter = createMessageCutter();
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      for (const line of cutter.push(chunk)) {
        socket.write(`HTTP/1.1 ${line.startsWith("POST /bad") ? "404 Not Found" : "200 OK"}\r\ncontent-length: 2\r\n\r\n{}`);
      }
    });
  });
  stack.defer(() => void rest.close());
  const grpc = createGrpcServer();
  grpc.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => undefined);
    stream.resume();
    stream.on("end", () => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end();
    });
  });
  stack.defer(() => void grpc.close());
  const restPort = await listen(rest);
  const grpcPort = await listen(grpc);
  const load = stack.use(openLoadProcess(file));

  const good = await load.run(plan(restPort), never);
  assert.ok(good.requests > 10);
  assert.equal(good.failed, 0);
  const paced = await load.run(plan(restPort, { requestsPerSecond: 50, measureMs: 400 }), never);
  // One may fall on either end of the window, and three clients may have been late for one each.
  assert.ok(paced.requests >= 1 && paced.requests <= 50 * paced.seconds + 5, `${paced.requests} in ${paced.seconds} s`);
  assert.equal(paced.failed, 0);
  assert.ok(good.p50Ms > 0 && good.p50Ms <= good.p99Ms);
  assert.ok((good.cpuNs[0] ?? 0) > 0);

  const bad = await load.run(plan(restPort, { requests: "bad" }), never);
  assert.equal(bad.requests, 0);
  assert.ok(bad.failed > 0);
  assert.deepEqual(bad.reasons, ["HTTP/1.1 404 Not Found"]);

  const calls = await load.run(plan(grpcPort, { wire: "grpc", requests: "grpc" }), never);
  assert.ok(calls.requests > 10);
  assert.equal(calls.failed, 0);

  await assert.rejects(load.run(plan(restPort, { requests: "none" }), never), /no requests called none/);
  const stop = new AbortController();
  const aborted = load.run(plan(restPort, { measureMs: 60_000 }), stop.signal);
  stop.abort(new Error("enough"));
  await assert.rejects(aborted, /enough/);
});
