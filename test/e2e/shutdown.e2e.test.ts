// `warmpath up` as a user runs it: it ends cleanly however it is ended, starts again with what it knew, and says in one
// sentence why it cannot start.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { isFree } from "#cli/up/ports.ts";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { createRestClient, type RestAnswer } from "../harness/http.ts";
import { findLibrary } from "../harness/setup.ts";
import { findUpPorts, openUp, type UpPorts, type UpProcess } from "../harness/up.ts";
import { waitUntil } from "../harness/wait.ts";

const loopback = "127.0.0.1";
let stateRun: RunFolder;
let tempRun: RunFolder;
let ports: UpPorts;
let up: UpProcess | undefined;

before(async () => {
  stateRun = await openRunFolder();
  tempRun = await openRunFolder();
  ports = await findUpPorts();
});

afterEach(async () => {
  await up?.[Symbol.asyncDispose]();
  up = undefined;
});

after(async () => {
  await stateRun?.[Symbol.asyncDispose]();
  await tempRun?.[Symbol.asyncDispose]();
});

async function start(...flags: string[]): Promise<UpProcess> {
  up = await openUp({ stateFolder: join(stateRun.path, "state"), tempFolder: tempRun.path, ports, flags });
  return up;
}

async function ask(port: number, path: string, body?: unknown, method?: "PUT"): Promise<RestAnswer> {
  await using client = createRestClient(`http://${loopback}:${port}`);
  const headers = body === undefined ? [] : [["content-type", "application/json"] as const];
  return await client.ask(path, { body, headers, ...(method === undefined ? {} : { method }) });
}

const iris = { inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] };

async function assertAnswers(model: string): Promise<void> {
  const answer = await ask(ports.http, `/v2/models/${model}/infer`, iris);
  assert.equal(answer.status, 200, answer.text);
  const { outputs } = answer.json as { outputs: { name: string; data: number[] }[] };
  assert.deepEqual(outputs.find(({ name }) => name === "label")?.data, [0], answer.text);
}

/** All ports that the fleet listens on, those of the model servers included. */
async function listPorts(): Promise<number[]> {
  const { pods } = (await ask(ports.admin, "/api/v1/pods")).json as {
    pods: { rest: { port: number }; grpc: { port: number } }[];
  };
  return [ports.http, ports.grpc, ports.admin, ...pods.flatMap(({ rest, grpc }) => [rest.port, grpc.port])];
}

/** Mostly a second or two; a busy machine takes longer. */
const patienceMs = 60_000;

async function exitOf(process: UpProcess): Promise<number | null> {
  let code: number | null | undefined;
  void process.exited.then((exit) => (code = exit.code));
  await waitUntil(
    "warmpath exits",
    () => ({ code, left: process.left(), stderr: process.stderr }),
    (seen) => seen.code !== undefined,
    patienceMs,
  );
  return code ?? null;
}

async function assertNothingLeft(process: UpProcess, usedPorts: readonly number[]): Promise<void> {
  assert.deepEqual(process.left(), [], "processes left");
  assert.deepEqual(readdirSync(tempRun.path), [], "left in the temporary folder");
  const kinds = readdirSync(join(stateRun.path, "state"), { recursive: true, withFileTypes: true });
  assert.deepEqual(
    kinds.filter((entry) => !entry.isFile() && !entry.isDirectory()).map(({ name }) => name),
    [],
    "sockets left",
  );
  for (const port of usedPorts) assert.ok(await isFree(loopback, port), `port ${port} is still taken`);
}

test("Ctrl-C ends everything within seconds, with exit code 0", async (t) => {
  const process = await start();
  t.diagnostic(`first start: up after ${(await process.whenUp()).toFixed(0)} ms`);
  await assertAnswers("iris-t0042");
  const uri = pathToFileURL(join(await findLibrary(), "models", "iris", "iris-t0001.onnx")).href;
  const put = await ask(ports.admin, "/api/v1/models/mine", { format: "onnx", storageUri: uri }, "PUT");
  assert.equal(put.status, 201, put.text);
  const marks = process.remember();
  assert.ok(marks.length >= 6, `only ${JSON.stringify(marks)} below it`);
  const used = await listPorts();
  const stoppedMs = performance.now();
  process.interrupt();
  assert.equal(await exitOf(process), 0, process.stderr.join("\n"));
  t.diagnostic(`stopped after ${(performance.now() - stoppedMs).toFixed(0)} ms`);
  assert.deepEqual(process.stderr, []);
  await assertNothingLeft(process, used);
});

test("a second start has every model, also the one registered since; kill -9 of the supervisor takes all with it", async (t) => {
  const process = await start();
  const upMs = await process.whenUp();
  t.diagnostic(`second start: up after ${upMs.toFixed(0)} ms`);
  // What was set up is there: nothing is installed, built or trained again, which takes a minute at best.
  assert.ok(upMs < 40_000, `it took ${upMs} ms`);
  assert.equal(((await ask(ports.admin, "/api/v1/stats")).json as { models: number }).models, 10_001);
  await assertAnswers("mine");
  process.remember();
  const used = await listPorts();
  process.kill("SIGKILL");
  await process.exited;
  await waitUntil(
    "its children vanish",
    () => process.left(),
    (left) => left.length === 0,
    patienceMs,
  );
  for (const port of used)
    await waitUntil(
      `port ${port} is free`,
      () => isFree(loopback, port),
      (free) => free,
      patienceMs,
    );
});

test("a start after that tidies up, and SIGTERM ends it cleanly while requests are under way", async () => {
  const before = readdirSync(tempRun.path);
  assert.equal(before.length, 1, `the killed run should have left its folder: ${before.join(", ")}`);
  const process = await start();
  await process.whenUp();
  const now = readdirSync(tempRun.path);
  assert.equal(now.length, 1, now.join(", "));
  assert.notDeepEqual(now, before);
  assert.equal(((await ask(ports.admin, "/api/v1/stats")).json as { models: number }).models, 10_001);
  await assertAnswers("mine");
  process.remember();
  const used = await listPorts();
  const underWay = Array.from({ length: 50 }, (_, at) =>
    ask(ports.http, `/v2/models/digits-t${String(at + 1).padStart(4, "0")}/infer`, iris).catch(() => undefined),
  );
  process.kill("SIGTERM");
  assert.equal(await exitOf(process), 0, process.stderr.join("\n"));
  await Promise.all(underWay);
  await assertNothingLeft(process, used);
});

test("Ctrl-C during the start leaves nothing either", async () => {
  const process = await start();
  await waitUntil(
    "its children start",
    () => process.remember(),
    (marks) => marks.length >= 4,
  );
  process.interrupt();
  assert.equal(await exitOf(process), 0, process.stderr.join("\n"));
  await waitUntil(
    "nothing is left",
    () => process.left(),
    (left) => left.length === 0,
    patienceMs,
  );
  await assertNothingLeft(process, []);
});

test("a second Ctrl-C exits at once, and its children go as well", async () => {
  const process = await start();
  await process.whenUp();
  process.remember();
  const used = await listPorts();
  process.interrupt();
  // Within 300 ms two signals count as one.
  const asked = performance.now();
  await waitUntil(
    "some time has gone by",
    () => performance.now() - asked,
    (ms) => ms > 350,
  );
  try {
    process.interrupt();
  } catch {
    // It has stopped already: then there is nothing to hurry.
  }
  const code = await exitOf(process);
  assert.ok(code === 130 || code === 0, `exit code ${code}`);
  await waitUntil(
    "its children vanish",
    () => process.left(),
    (left) => left.length === 0,
    patienceMs,
  );
  for (const port of used)
    await waitUntil(
      `port ${port} is free`,
      () => isFree(loopback, port),
      (free) => free,
      patienceMs,
    );
});

test("--for 5s --json ends by itself with the result as its last line", async () => {
  const process = await start("--for", "5s", "--json");
  const code = await exitOf(process);
  const last = process.stdout.at(-1) ?? "";
  assert.equal(process.stdout.length, 1, process.stdout.join("\n"));
  const report = JSON.parse(last) as Record<string, number>;
  const keys =
    "models capacityModels requests failed wrong hits misses evictions hitP50Ms hitP99Ms missP50Ms missP99Ms javascriptRequests";
  for (const key of keys.split(" ")) assert.equal(typeof report[key], "number", `${key} in ${last}`);
  assert.equal(code, 0, `${last} ${process.stderr.join("\n")}`);
  assert.equal(report["failed"], 0, last);
  assert.equal(report["wrong"], 0, last);
  assert.equal(report["models"], 10_001, last);
  assert.equal(report["requests"], report["hits"]! + report["misses"]!, last);
  assert.equal(report["javascriptRequests"], report["misses"], last);
  // How much is loaded in 5 s is the machine's to say; what does not fit makes others go.
  assert.ok(report["loads"]! - report["evictions"]! <= report["capacityModels"]!, last);
  assert.ok(report["capacityModels"]! > 200 && report["capacityModels"]! < 600, last);
  await assertNothingLeft(process, Object.values(ports));
});

test("a port that is taken is one clear sentence, exit code 1", async () => {
  for (const port of Object.values(ports) as number[]) {
    const server = createServer();
    server.listen(port, loopback);
    try {
      const process = await start();
      assert.equal(await exitOf(process), 1);
      assert.deepEqual(process.stdout, []);
      assert.equal(process.stderr.length, 1, process.stderr.join("\n"));
      assert.match(process.stderr[0]!, new RegExp(`port ${port} .*taken.*--port-offset`));
    } finally {
      server.close();
    }
  }
});

test("options that make no sense are one clear sentence each, exit code 2", async () => {
  for (const [flags, sentence] of [
    [["--pods", "none"], /--pods/],
    [["--capacity", "much"], /--capacity/],
    [["--for", "ever"], /--for/],
    [["--http-port", "99999"], /--http-port/],
    [["--no-such-option"], /--no-such-option/],
  ] as const) {
    const process = await start(...flags);
    assert.equal(await exitOf(process), 2);
    assert.equal(process.stderr.length, 1, process.stderr.join("\n"));
    assert.match(process.stderr[0]!, sentence);
  }
});

test("a second run on the same state folder is refused in one sentence", async () => {
  const first = await start();
  await first.whenUp();
  await using second = await openUp({
    stateFolder: join(stateRun.path, "state"),
    tempFolder: tempRun.path,
    ports: await findUpPorts(),
  });
  assert.equal(await exitOf(second), 1);
  assert.equal(second.stderr.length, 1, second.stderr.join("\n"));
  assert.match(second.stderr[0]!, /another warmpath runs on .*--state/);
  await assertAnswers("iris-t0001");
  first.remember();
  first.interrupt();
  assert.equal(await exitOf(first), 0);
  await assertNothingLeft(first, Object.values(ports));
});
