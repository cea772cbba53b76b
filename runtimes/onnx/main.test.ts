// The process: flags, readiness, the socket for management, many sessions, bad files, the end.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Agent, request } from "undici";
import { waitFor } from "#platform/testing.ts";
import { addConstantGraph, addSubGraph, forestGraph, perceptronGraph } from "./testing/graphs.ts";
import { type AdminAnswer, openServerProcess, type ServerProcess } from "./testing/process.ts";

const main = fileURLToPath(new URL("main.ts", import.meta.url));

async function load(server: ServerProcess, name: string, path: string, revision = "r"): Promise<AdminAnswer> {
  return server.admin("POST", `/v2/repository/models/${name}/load`, { parameters: { path, revision } });
}

for (const how of ["SIGTERM", "SIGINT", "close stdin"] as const) {
  test(`ends with 0 on ${how} and takes its socket away`, async () => {
    await using server = await openServerProcess();
    assert.equal((await stat(server.adminSocket)).mode & 0o777, 0o600);
    assert.equal(await server.stop(how), 0);
    assert.equal(existsSync(server.adminSocket), false);
  });
}

test("refuses to start with one sentence: code 2 for a flag that nobody knows, 1 for what the machine does not allow", () => {
  const ports = ["--rest-port", "0", "--grpc-port", "0"];
  const cases: readonly [string[], RegExp, number][] = [
    [["--nope"], /usage/, 2],
    [[...ports, "--admin-socket", "/tmp"], /another kind/, 1],
    [[...ports, "--admin-socket", "/nope/x.sock"], /cannot listen/, 1],
  ];
  for (const [flags, message, code] of cases) {
    const { status, stderr, stdout } = spawnSync(process.execPath, [main, ...flags], { encoding: "utf8", timeout: 20_000 });
    assert.match(stderr, message);
    assert.deepEqual([status, stdout], [code, ""]);
  }
});

test("a socket in use is left alone; one of a dead server is taken over", async () => {
  await using server = await openServerProcess();
  const flags = ["--rest-port", "0", "--grpc-port", "0", "--admin-socket", server.adminSocket];
  const second = spawnSync(process.execPath, [main, ...flags], { encoding: "utf8", timeout: 20_000 });
  assert.match(second.stderr, /another server is listening/);
  assert.equal((await server.admin("GET", "/stats")).status, 200);
  await server.stop("SIGKILL");
  assert.ok(existsSync(server.adminSocket));
  await using third = await openServerProcess(["--admin-socket", server.adminSocket]);
  assert.equal((await server.admin("GET", "/stats")).status, 200);
  assert.equal(await third.stop("SIGTERM"), 0);
});

test("a port in use is told in one sentence", async () => {
  await using server = await openServerProcess();
  for (const flag of ["--rest-port", "--grpc-port"]) {
    await assert.rejects(openServerProcess([flag, String(server.restPort)]), /cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE/);
  }
});

test("a request under way when the server is told to stop gets its answer", async () => {
  await using server = await openServerProcess();
  const path = join(server.folder, "m.onnx");
  await writeFile(path, addConstantGraph(1));
  await load(server, "m", path);
  const body = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}';
  const socket = connect(server.restPort, "127.0.0.1");
  let answer = "";
  socket.on("data", (chunk: Buffer) => (answer += chunk.toString()));
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.write(`POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: ${body.length}\r\n\r\n`);
  await waitFor(() => answer.includes("100 Continue"));
  const stopped = server.stop("SIGTERM");
  await waitFor(async () =>
    request(`http://127.0.0.1:${server.restPort}/v2`).then(
      () => false,
      () => true,
    ),
  );
  socket.write(body);
  await closed;
  assert.match(answer, /200 OK/);
  assert.match(answer, /"data":\[2,3\]/);
  assert.equal(await stopped, 0);
});

test("management: load, index, stats, unload, and failures told apart", async () => {
  await using server = await openServerProcess();
  const path = join(server.folder, "m.onnx");
  await writeFile(path, addConstantGraph(1));
  const loaded = await load(server, "m~1", path, "r1");
  assert.equal(loaded.status, 200);
  const { sizeBytes, loadMs } = loaded.body as { sizeBytes: number; loadMs: number };
  assert.ok(sizeBytes > 60_000 && sizeBytes < 120_000 && loadMs > 0);
  assert.deepEqual((await load(server, "m~1", path, "r1")).body, { sizeBytes, loadMs: 0 });
  assert.deepEqual((await server.admin("POST", "/v2/repository/index")).body, [
    { name: "m~1", revision: "r1", state: "READY", sizeBytes },
  ]);
  const { rssBytes, ...stats } = (await server.admin("GET", "/stats")).body as { rssBytes: number };
  assert.deepEqual(stats, { models: 1, requests: 0, errors: 0, usedBytes: sizeBytes });
  assert.ok(rssBytes > 1e7);

  await writeFile(join(server.folder, "bad.onnx"), "no model");
  const cases: readonly [unknown, number, string][] = [
    [{ parameters: { path: join(server.folder, "bad.onnx") } }, 422, "model"],
    [{ parameters: { path: join(server.folder, "nope.onnx") } }, 404, "storage"],
    [{ parameters: { path: "relative.onnx" } }, 400, "pod"],
    [{}, 400, "pod"],
  ];
  for (const [body, status, kind] of cases) {
    const answer = await server.admin("POST", "/v2/repository/models/other/load", body);
    assert.deepEqual([answer.status, (answer.body as { kind: string }).kind], [status, kind]);
  }
  for (const name of ["m~1", "never-loaded"]) {
    const answer = await server.admin("POST", `/v2/repository/models/${name}/unload`, { parameters: { drainMs: 100 } });
    assert.deepEqual(answer, { status: 200, body: { inFlight: 0 } });
  }
  assert.deepEqual((await server.admin("POST", "/v2/repository/index")).body, []);
});

for (const [where, model] of [
  ["the main thread", () => perceptronGraph([784, 256, 128, 10])],
  ["other threads", () => perceptronGraph([784, 512, 256, 10])],
] as const) {
  test(`the memory of unloaded models goes back to the system, from ${where}`, { timeout: 60_000 }, async () => {
    await using server = await openServerProcess();
    const path = join(server.folder, "m.onnx");
    await writeFile(path, model());
    const stats = async (): Promise<Record<string, number>> =>
      (await server.admin("GET", "/stats")).body as Record<string, number>;
    // As many as start all threads there are.
    for (let at = 0; at < 4; at++) await load(server, `first${at}`, path);
    const { rssBytes: before = 0, usedBytes: usedBefore = 0 } = await stats();
    for (let at = 0; at < 80; at++) await load(server, `m${at}`, path);
    const { rssBytes: full = 0, usedBytes: usedFull = 0 } = await stats();
    for (let at = 0; at < 80; at++) await server.admin("POST", `/v2/repository/models/m${at}/unload`);
    const { rssBytes: after = 0, models } = await stats();
    assert.equal(models, 4);
    const [took, estimated] = [full - before, usedFull - usedBefore];
    assert.ok(took > 60e6, `80 models took ${took} bytes`);
    assert.ok(took > estimated * 0.7 && took < estimated * 1.3, `80 models took ${took} bytes, and ${estimated} are counted`);
    assert.ok(after - before < took / 2, `${after - before} of ${took} bytes stayed`);
  });
}

test("holds 2,000 sessions and serves while they are loaded", { timeout: 60_000 }, async () => {
  await using server = await openServerProcess();
  const path = join(server.folder, "m.onnx");
  await writeFile(path, addSubGraph());
  await load(server, "m0", path);
  const data = Array.from({ length: 16 }, (_, at) => at);
  const body = JSON.stringify({ inputs: ["a", "b"].map((name) => ({ name, datatype: "INT32", shape: [1, 16], data })) });
  const agent = new Agent();
  const ask = async (name: string): Promise<number> => {
    const answer = await request(`http://127.0.0.1:${server.restPort}/v2/models/${name}/infer`, {
      method: "POST",
      body,
      dispatcher: agent,
    });
    assert.match(await answer.body.text(), /"data":\[0,2,4,/);
    return answer.statusCode;
  };
  let next = 1;
  const loader = async (): Promise<void> => {
    while (next < 2_000) assert.equal((await load(server, `m${next++}`, path)).status, 200);
  };
  const loaded = Promise.all(Array.from({ length: 8 }, loader));
  let served = 0;
  const loading = (): boolean => next < 2_000;
  while (loading()) served += (await ask("m0")) === 200 ? 1 : 0;
  await loaded;
  assert.ok(served > 100, `${served} requests were served during the loads`);
  for (const at of [1, 999, 1_999]) assert.equal(await ask(`m${at}`), 200);
  const { models, usedBytes, rssBytes } = (await server.admin("GET", "/stats")).body as Record<string, number>;
  assert.equal(models, 2_000);
  assert.ok(Number(rssBytes) < 300e6 + Number(usedBytes), `${rssBytes} resident, ${usedBytes} counted`);
  await agent.destroy();
});

test("survives any file", { timeout: 60_000 }, async () => {
  await using server = await openServerProcess();
  const path = join(server.folder, "m.onnx");
  let seed = 7;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7f_ff_ff_ff;
    return (seed >>> 8) % below;
  };
  const statuses = new Map<number, number>();
  const attempt = async (bytes: Uint8Array, at: number): Promise<void> => {
    await writeFile(path, bytes);
    const { status } = await load(server, "m", path, String(at));
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  };
  for (const model of [addSubGraph(), forestGraph(1, 2)]) {
    for (let cut = 0; cut < model.length; cut += 7) await attempt(model.subarray(0, cut), cut);
    for (let i = 0; i < 150; i++) await attempt(model.with(random(model.length), random(256)), 10_000 + i);
  }
  for (let i = 0; i < 50; i++)
    await attempt(
      Uint8Array.from({ length: random(400) }, () => random(256)),
      20_000 + i,
    );
  assert.deepEqual(
    [...statuses.keys()].toSorted((a, b) => a - b),
    [200, 422],
  );
  assert.equal(await server.stop("SIGTERM"), 0);
});
