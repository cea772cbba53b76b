// HTTP as old and plain clients speak it: version 1.0, which names no host and ends its connection unless it asks to keep
// it; what Envoy refuses by itself, in words; and the index of those models that are warm.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";

const hot = "iris-t0001";
const cold = "wine-t0002";
const body = JSON.stringify({ inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] });
let fleet: TestFleet;

before(async () => {
  fleet = await openFleet();
  await waitUntil(
    `${hot} is hit`,
    () => fleet.asker.ask(hot, "rest"),
    ({ miss }) => !miss,
  );
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
});

/** What comes until the other side ends the connection. */
async function say(...lines: string[]): Promise<string> {
  const { hostname, port } = new URL(fleet.restUrl);
  const socket = connect(Number(port), hostname);
  socket.write(lines.join("\r\n"));
  return text(socket);
}

const ask = (model: string, ...headers: string[]): string[] => [
  `POST /v2/models/${model}/infer HTTP/1.0`,
  "Content-Type: application/json",
  `Content-Length: ${Buffer.byteLength(body)}`,
  ...headers,
  "",
  body,
];

test("HTTP/1.0 without a host is answered, hit and miss, and the connection ends", async () => {
  for (const model of [hot, "iris-t0003"]) {
    const answer = await say(...ask(model));
    assert.match(answer, /^HTTP\/1\.0 200 OK\r\n/);
    assert.match(answer, new RegExp(`"model_name":"${model}"`));
    assert.doesNotMatch(answer, /transfer-encoding/i);
  }
});

test("HTTP/1.0 that asks for it keeps its connection", async () => {
  const kept = ask(hot, "Host: a", "Connection: keep-alive");
  const answers = await say(...kept.slice(0, -1), body + ask(hot).join("\r\n"));
  assert.equal(answers.match(/HTTP\/1\.0 200 OK/g)?.length, 2, answers);
  assert.match(answers, /connection: keep-alive/i);
});

test("an unknown model is unknown over HTTP/1.0, too", async () => {
  const answer = await say(...ask("nobody"));
  assert.match(answer, /^HTTP\/1\.0 404 Not Found\r\n/);
  assert.match(answer, /\{"error":"Model nobody not found"\}/);
});

test("what Envoy refuses by itself it refuses in words", async () => {
  const fragment = await say(`POST /v2/models/${hot}/infer#x HTTP/1.1`, "Host: a", "Content-Length: 0", "", "");
  assert.match(fragment, /^HTTP\/1\.1 400 [^]*\{"error":"the path must not contain a fragment \(#\)"\}/);
  const upgrade = await say(`GET /v2/models/${hot} HTTP/1.1`, "Host: a", "Connection: upgrade", "Upgrade: websocket", "", "");
  assert.match(upgrade, /^HTTP\/1\.1 403 [^]*\{"error":"a connection cannot be upgraded to another protocol here"\}/);
});

test("the index of ready models lists those that are warm", async () => {
  const list = async (asked?: object): Promise<string[]> => {
    const answer = await fetch(`${fleet.restUrl}/v2/repository/index`, {
      method: "POST",
      ...(asked === undefined ? {} : { body: JSON.stringify(asked) }),
    });
    assert.equal(answer.status, 200);
    return ((await answer.json()) as { name: string }[]).map(({ name }) => name);
  };
  for (const asked of [undefined, {}, { ready: false }]) {
    const all = await list(asked);
    assert.equal(all.length, fleet.oracle.models.length);
    assert.ok(all.includes(cold));
  }
  const ready = await list({ ready: true });
  assert.ok(ready.includes(hot) && !ready.includes(cold), ready.join(" "));
});
