// What one model does is not in the way of the others: proved by the order of events, whatever time they take.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import type { Log } from "#platform/log.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { addConstantGraph, loopGraph, perceptronGraph, squareGraph } from "./testing/graphs.ts";
import { openServerProcess } from "./testing/process.ts";
import { openTestServer, type TestServer, type Told } from "./testing/server.ts";

/** Long enough that a hundred requests are answered meanwhile, by far. */
const longTimes = 1_000_000;

const one = { inputs: [{ name: "x", datatype: "FP32", shape: [1, 2], data: [1, 2] }] };
const row = Array.from({ length: 64 }, () => 1);

function loop(times: number): object {
  return {
    inputs: [
      { name: "times", datatype: "INT64", shape: [], data: [times] },
      { name: "x", datatype: "FP32", shape: [1, 64], data: row },
    ],
  };
}

async function compute(server: TestServer, times: number): Promise<Told> {
  return await server.rest("/v2/models/slow/infer", { body: loop(times) });
}

async function hit(server: TestServer): Promise<void> {
  const { status: code, json } = await server.rest("/v2/models/quick/infer", { body: one });
  assert.equal(code, 200, JSON.stringify(json));
}

const raw = new Uint8Array(Float32Array.of(1, 2).buffer);
const message = create(ModelInferRequestSchema, {
  modelName: "quick",
  inputs: [{ name: "x", datatype: "FP32", shape: [1n, 2n] }],
  rawInputContents: [raw],
});

test("hits, health and management are answered while another model computes", async () => {
  await using server = await openTestServer();
  await server.load("quick", addConstantGraph(1));
  await server.load("slow", loopGraph());
  const events: string[] = [];
  const slow = compute(server, longTimes).then((told) => events.push(`slow ${told.status}`));
  for (let i = 0; i < 50; i++) await hit(server);
  for (let i = 0; i < 50; i++) await server.grpc.modelInfer(message, { timeoutMs: 60_000 });
  assert.equal((await server.rest("/v2/health/ready")).status, 200);
  assert.equal((await server.admin("/stats", { method: "GET" })).status, 200);
  await server.load("new", addConstantGraph(2));
  events.push("others");
  await slow;
  assert.deepEqual(events, ["others", "slow 200"]);
});

test("hits are answered one after the other while a large model is loaded", async () => {
  await using server = await openTestServer();
  await server.load("quick", addConstantGraph(1));
  const path = await server.write(perceptronGraph([4_000, 4_000]));
  const state = { loading: true };
  const loaded = server
    .admin("/v2/repository/models/large/load", { body: { parameters: { path } } })
    .finally(() => (state.loading = false));
  let hits = 0;
  for (; state.loading; hits++) await hit(server);
  assert.equal((await loaded).status, 200);
  assert.ok(hits > 20, `${hits} hits during the load`);
  const { json } = await server.admin("/v2/repository/models/large/unload", { body: {} });
  assert.deepEqual(json, { inFlight: 0 });
});

/** Keeps what is said of moves. */
function listen(): { readonly log: Log; readonly moves: unknown[] } {
  const moves: unknown[] = [];
  return { moves, log: { ...silentLog, info: (text, keys) => void (text.startsWith("model") && moves.push(keys?.["to"])) } };
}

/** Of a matrix that is multiplied with itself: some 28 billion operations, slow on any processor. */
const slowSide = 2_400;

test("a small graph that turns out to be slow holds up others once, also when it is loaded again", async () => {
  const { log, moves } = listen();
  await using server = await openTestServer(32 * 1024 * 1024, { log });
  await server.load("quick", addConstantGraph(1));
  await server.load("square", squareGraph(), { revision: "r1" });
  const square = async (n: number): Promise<number> => {
    const head = Buffer.from(
      JSON.stringify({
        inputs: [{ name: "x", datatype: "FP32", shape: [n, n], parameters: { binary_data_size: 4 * n * n } }],
        outputs: [{ name: "y", parameters: { binary_data: true } }],
      }),
    );
    const answer = await server.rest("/v2/models/square/infer", {
      body: Buffer.concat([head, Buffer.alloc(4 * n * n)]),
      headers: { "inference-header-content-length": String(head.length) },
    });
    return answer.status;
  };
  assert.equal(await square(slowSide), 200);
  await waitFor(() => moves.length === 1);
  assert.deepEqual(moves, ["thread"]);
  for (let round = 0; round < 2; round++) {
    const events: string[] = [];
    const slow = square(slowSide).then((code) => events.push(`slow ${code}`));
    for (let i = 0; i < 5; i++) await hit(server);
    events.push("others");
    await slow;
    assert.deepEqual(events, ["others", "slow 200"]);
    await server.admin("/v2/repository/models/square/unload", { body: {} });
    await server.load("square", squareGraph(), { revision: "r1" });
  }
});

test("a loop that is quick comes to the main thread, and leaves it when it is slow", async () => {
  const { log, moves } = listen();
  await using server = await openTestServer(undefined, { log });
  await server.load("slow", loopGraph());
  const answers = new Set<string>();
  for (let i = 0; i < 40; i++) answers.add((await compute(server, 1)).bytes.toString());
  await waitFor(() => moves.length === 1);
  for (let i = 0; i < 40; i++) answers.add((await compute(server, 1)).bytes.toString());
  assert.equal(answers.size, 1);
  assert.equal((await compute(server, 100_000)).status, 200);
  await waitFor(() => moves.length === 2);
  assert.deepEqual(moves, ["main", "thread"]);
  answers.add((await compute(server, 1)).bytes.toString());
  assert.equal(answers.size, 1);
});

test("requests wait in a number that is bounded; those whose client leaves do not", async () => {
  await using server = await openTestServer(undefined, { maxWaiting: 2 });
  await server.load("slow", loopGraph());
  const events: string[] = [];
  const first = compute(server, longTimes).then(() => events.push("first"));
  const errors = async (): Promise<number> =>
    ((await server.admin("/stats", { method: "GET" })).json as { errors: number }).errors;
  const requests = async (): Promise<number> =>
    ((await server.admin("/stats", { method: "GET" })).json as { requests: number }).requests;
  const stop = new AbortController();
  await waitFor(async () => (await requests()) === 1);
  const typed = create(ModelInferRequestSchema, {
    modelName: "slow",
    inputs: [
      { name: "times", datatype: "INT64", shape: [], contents: { int64Contents: [1n] } },
      { name: "x", datatype: "FP32", shape: [1n, 64n], contents: { fp32Contents: row } },
    ],
  });
  const left = assert.rejects(server.grpc.modelInfer(typed, { signal: stop.signal, timeoutMs: 60_000 }));
  const url = `http://127.0.0.1:${server.restPort}/v2/models/slow/infer`;
  const alsoLeft = assert.rejects(fetch(url, { method: "POST", body: JSON.stringify(loop(1)), signal: stop.signal }));
  await waitFor(async () => (await requests()) === 3);
  const refused = await compute(server, 1);
  assert.deepEqual([refused.status, refused.headers["retry-after"]], [429, "1"]);
  assert.match(refused.bytes.toString(), /waiting already/);
  await assert.rejects(server.grpc.modelInfer(typed, { timeoutMs: 60_000 }), { code: status.RESOURCE_EXHAUSTED });
  assert.equal(await errors(), 2);
  stop.abort();
  await Promise.all([left, alsoLeft]);
  await waitFor(async () => (await errors()) === 4);
  const last = compute(server, 1).then((told) => events.push(`last ${told.status}`));
  events.push("left");
  await Promise.all([first, last]);
  assert.deepEqual(events, ["left", "first", "last 200"]);
});

test("unloading waits for what computes, as long as it is told to", async () => {
  await using server = await openTestServer();
  const unload = async (drainMs: number): Promise<unknown> =>
    (await server.admin("/v2/repository/models/slow/unload", { body: { parameters: { drainMs } } })).json;
  const stats = async (): Promise<{ readonly requests: number }> =>
    (await server.admin("/stats", { method: "GET" })).json as { requests: number };
  for (const [times, drainMs, inFlight] of [
    [100_000, 60_000, 0],
    [longTimes, 1, 1],
  ] as const) {
    await server.load("slow", loopGraph());
    const { requests } = await stats();
    const running = compute(server, times);
    await waitFor(async () => (await stats()).requests > requests);
    assert.deepEqual(await unload(drainMs), { inFlight });
    assert.equal((await running).status, 200);
  }
});

test("a run without end does not keep the server from its own", { timeout: 60_000 }, async () => {
  await using server = await openServerProcess();
  const path = join(server.folder, "m.onnx");
  await writeFile(path, loopGraph());
  await server.admin("POST", "/v2/repository/models/slow/load", { parameters: { path } });
  const running = fetch(`http://127.0.0.1:${server.restPort}/v2/models/slow/infer`, {
    method: "POST",
    body: JSON.stringify(loop(2 ** 50)),
  }).then(
    () => "answered",
    () => "cut off",
  );
  await waitFor(async () => ((await server.admin("GET", "/stats")).body as { requests: number }).requests === 1);
  assert.equal(await server.stop("SIGTERM"), null);
  assert.equal(await running, "cut off");
});
