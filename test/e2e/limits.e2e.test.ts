// What Envoy may take is bounded: further connections are closed, requests that would fill its memory are refused. Who is
// there already, and small, goes on; afterwards everything is as before.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { Client } from "undici";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, inferencePath } from "../harness/grpc.ts";
import { createRestClient } from "../harness/http.ts";
import { waitUntil } from "../harness/wait.ts";

const maxConnections = 60;
let fleet: TestFleet;
let client: Client;

before(async () => {
  fleet = await openFleet({ pods: 1, limits: { maxConnections, maxHeapBytes: 160 * 2 ** 20 } });
  client = new Client(fleet.restUrl);
  await waitUntil("a first answer", ask, (status) => status === 200);
});

after(async () => {
  await client?.destroy();
  await fleet?.[Symbol.asyncDispose]();
});

const body = JSON.stringify({ inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] });

async function ask(): Promise<number> {
  const answer = await client.request({ method: "POST", path: "/v2/models/iris-t0001/infer", body });
  await answer.body.dump();
  return answer.statusCode;
}

test("more connections than may be are closed; those that are asked go on, and idle ones make room for others", async () => {
  const { port } = new URL(fleet.restUrl);
  const sockets: Socket[] = [];
  let open = 0;
  try {
    for (let at = 0; at < 2 * maxConnections; at++) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", () => undefined);
      socket.on("connect", () => (open += 1));
      socket.on("close", () => (open -= 1));
      sockets.push(socket);
      await Promise.race([once(socket, "connect"), once(socket, "close")]);
    }
    await waitUntil(
      "the surplus is closed",
      () => open,
      (count) => count <= maxConnections,
    );
    const refused = await fleet.envoyStats("downstream_global_cx_overflow$");
    const surplus = Math.max(...refused.values());
    assert.ok(surplus > 0 && surplus <= maxConnections + 10, `${surplus} of ${sockets.length} were refused`);
    for (let turn = 0; turn < 20; turn++) assert.equal(await ask(), 200);
    // None of them leaves by itself.
    await waitUntil(
      "idle ones are closed",
      () => open,
      (count) => count < 0.8 * maxConnections,
    );
    for (let turn = 0; turn < 5; turn++) {
      await using newcomer = createRestClient(fleet.restUrl);
      assert.equal((await newcomer.ask("/v2/health/live")).status, 200);
    }
    assert.equal(await ask(), 200);
  } finally {
    for (const socket of sockets) socket.destroy();
  }
});

test("its table of open files has room for all connections from the start", async () => {
  const { pid } = fleet.process("envoy");
  const [, slots] = /^FDSize:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, "utf8")) ?? [];
  assert.ok(Number(slots) >= 4_000 + maxConnections, `${slots}`);
});

test("messages that would fill its memory are ended or refused; it lives, and serves again", async () => {
  const { pid, restarts } = fleet.process("envoy");
  const message = frameOf(new Uint8Array(12 << 20).fill(97), { length: (12 << 20) + 1 });
  const sessions: ClientHttp2Session[] = [];
  let ended = 0;
  try {
    for (let at = 0; at < 4; at++) {
      const session = connectHttp2(`http://${fleet.grpcTarget}`);
      session.on("error", () => undefined);
      sessions.push(session);
      for (let n = 0; n < 6; n++) {
        // Each is a whole message but for its last byte, so that it is kept while the naming filter waits for it.
        const stream = session.request({
          ":method": "POST",
          ":path": inferencePath("ModelInfer"),
          "content-type": "application/grpc",
          te: "trailers",
        });
        stream.on("error", () => undefined);
        stream.on("close", () => (ended += 1));
        stream.resume();
        stream.write(message);
      }
    }
    await waitUntil(
      "Envoy ends those that hold most",
      () => fleet.envoyStats("reset_high_memory_stream.count"),
      (stats) => [...stats.values()].some((count) => count > 0),
    );
    await waitUntil(
      "their clients hear of it",
      () => ended,
      (count) => count > 0,
    );
  } finally {
    for (const session of sessions) session.destroy();
  }
  await waitUntil("requests are served again", ask, (status) => status === 200);
  assert.deepEqual([fleet.process("envoy").pid, fleet.process("envoy").restarts], [pid, restarts], await fleet.tail("envoy"));
});
