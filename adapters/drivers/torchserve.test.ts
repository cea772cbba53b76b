// Holds the driver of TorchServe to the contract, over the real server and over one scripted as that one behaves.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { frameOf, openGrpcClient } from "#test/harness/grpc.ts";
import { createRestClient, type RestAnswer, type RestAsk } from "#test/harness/http.ts";
import { openMemoryGroup } from "#test/harness/memorygroup.ts";
import { mishapsOf } from "#test/harness/modelserver.ts";
import { openTorchserve, type Torchserve } from "#test/harness/torchserve.ts";
import { openScripted, type Script } from "../testing/scripted.ts";
import type { Driver, Failure, Loaded } from "./driver.ts";
import { createForeignDriver } from "./foreign.ts";
import { createProcessMeter } from "./memory/processes.ts";
import { createRecord } from "./record.ts";
import { type DriverHarness, describeDriver, startDriver } from "./suite.ts";
import { createTorchserve } from "./torchserve.ts";
import { torchserveConfig } from "./torchserveconfig.ts";

const mebibyte = 2 ** 20;

function openDriver({ managementAddress: address, restAddress, grpcAddress, store }: Torchserve): Driver {
  const server = createTorchserve({ address, restAddress, grpcAddress, store, processes: createProcessMeter(address) });
  return createForeignDriver(server, createRecord(`${store}.copies`), { clock: systemClock });
}

async function ask(address: string, path: string, options: RestAsk = {}): Promise<RestAnswer> {
  await using client = createRestClient(`http://${address}`);
  return await client.ask(path, options);
}

async function openReal(): Promise<DriverHarness> {
  const server = await openTorchserve();
  return {
    openDriver: () => openDriver(server),
    format: "pytorch-mar",
    goodPath: join(server.models, "twice.mar"),
    brokenPath: join(server.models, "raises.mar"),
    absentPath: join(server.models, "absent.mar"),
    exhaustingPath: join(server.models, "refused.mar"),
    ...mishapsOf(server),
    async forget(serverName): Promise<void> {
      const answer = await ask(server.managementAddress, `/models/${serverName}`, { method: "DELETE" });
      assert.equal(answer.status, 200, answer.text);
    },
  };
}

describeDriver("TorchServe", openReal);

describe("what is special about TorchServe", { timeout: 300_000 }, () => {
  let server: Torchserve;
  let driver: Driver;
  let started: AsyncDisposable;
  const never = new AbortController().signal;
  const load = (serverName: string, archive: string): Promise<Loaded | Failure> =>
    driver.load({
      serverName,
      revision: "r1",
      path: join(server.models, `${archive}.mar`),
      format: "pytorch-mar",
      expectedBytes: 1_000,
      signal: never,
    });
  const inputs = (value: number) => ({ inputs: [{ name: "x", datatype: "FP32", shape: [2], data: [value, -1] }] });
  const infer = (serverName: string, value: number) =>
    ask(server.restAddress, `/v2/models/${serverName}/infer`, { method: "POST", body: inputs(value) });
  const workerOf = async (serverName: string): Promise<{ readonly pid: number; readonly status: string }> => {
    const answer = await ask(server.managementAddress, `/models/${serverName}`);
    assert.equal(answer.status, 200, answer.text);
    return JSON.parse(answer.text)[0].workers[0];
  };

  before(async () => {
    server = await openTorchserve();
    driver = openDriver(server);
    started = await startDriver(driver);
  });
  after(async () => {
    await started[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  test("requests reach the model by V2, by V1 and by TorchServe's own gRPC, also in a slot", async () => {
    for (const [serverName, archive] of [
      ["m", "twice"],
      ["m~3", "thrice"],
    ] as const) {
      const loaded = await load(serverName, archive);
      assert.equal(loaded.kind, "ok", JSON.stringify(loaded));
    }
    for (const [serverName, factor] of [
      ["m", 2],
      ["m~3", 3],
    ] as const) {
      const second = await infer(serverName, 5);
      assert.equal(second.status, 200, second.text);
      assert.deepEqual(JSON.parse(second.text).outputs[0].data, [5 * factor, -factor]);
      const body = { instances: [5] };
      const first = await ask(server.restAddress, `/v1/models/${serverName}:predict`, { method: "POST", body });
      assert.deepEqual(JSON.parse(first.text).predictions, [5 * factor]);
      await using client = await openGrpcClient(server.grpcAddress);
      const injection = driver.limits?.().idInjections?.find(({ method }) => method.endsWith("/Predictions"));
      assert.deepEqual(injection?.path, [1]);
      const own = await client.call(`/${injection.method}`, frameOf(predictionsRequest(serverName, JSON.stringify(body))));
      assert.equal(own.status, 0, own.message);
      assert.match(own.body.toString("latin1"), new RegExp(`"predictions": \\[\\s*${5 * factor}\\s*\\]`));
    }
    const unknown = await infer("nobody", 1);
    assert.equal(unknown.status, 404, "which Envoy takes for absence");
  });

  test("what a model takes is what its worker takes", async () => {
    const [small, heavy] = [await load("small", "twice"), await load("heavy", "heavy")];
    assert.ok(small.kind === "ok" && heavy.kind === "ok");
    assert.ok(small.measured && heavy.measured);
    const moreBytes = heavy.sizeBytes - small.sizeBytes;
    assert.ok(moreBytes > 60 * mebibyte && moreBytes < 90 * mebibyte, `${small.sizeBytes} ${heavy.sizeBytes}`);
    for (const serverName of ["small", "heavy"]) assert.equal((await driver.unload(serverName, never)).kind, "ok");
  });

  test("says why a model cannot be loaded as far as it is told, and keeps nothing of it", async () => {
    const failures: Record<string, string> = {};
    for (const archive of ["raises", "asks", "ends", "garbage", "refused"]) {
      const failed = await load(archive, archive);
      assert.equal(failed.kind, "failed", archive);
      failures[archive] = failed.kind === "failed" ? failed.failure : "";
    }
    assert.deepEqual(failures, { raises: "model", asks: "model", ends: "model", garbage: "model", refused: "capacity" });
    const { text } = await ask(server.managementAddress, "/models");
    assert.deepEqual(
      JSON.parse(text).models.map(({ modelName }: { readonly modelName: string }) => modelName),
      ["m", "m~3"],
    );
  });

  test("a worker that is killed comes again by itself, and its model is held all the while", async () => {
    const { pid } = await workerOf("m");
    const answer = await infer("m", 666);
    assert.ok(answer.status >= 500, `${answer.status} ${answer.text}`);
    const again = await waitFor(async () => {
      const worker = await workerOf("m");
      return worker.status === "READY" && worker.pid !== pid ? worker : undefined;
    });
    assert.notEqual(again.pid, pid);
    const listed = await driver.list(never);
    assert.ok(listed.kind === "ok" && listed.held.some(({ serverName }) => serverName === "m"));
    assert.equal(await driver.ready("m", "r1", never), true);
    assert.deepEqual(JSON.parse((await infer("m", 5)).text).outputs[0].data, [10, -2]);
  });

  test("a store that it does not see is no fault of the model", async () => {
    const { managementAddress: address, restAddress, grpcAddress, store } = server;
    const elsewhere = createTorchserve({ address, restAddress, grpcAddress, store: `${store}.other` });
    await using other = createForeignDriver(elsewhere, createRecord(`${store}.other.copies`), { clock: systemClock });
    const path = join(server.models, "twice.mar");
    const request = { revision: "r1", path, format: "pytorch-mar", expectedBytes: 1, signal: never };
    const failed = await other.load({ ...request, serverName: "unseen" });
    assert.equal(failed.kind === "failed" && failed.failure, "pod", JSON.stringify(failed));
  });

  test("the configuration that the adapter writes lies whole where the predecessor's runtimes wait for it", async () => {
    const { managementAddress: address, restAddress, grpcAddress, store } = server;
    const text = await readFile(join(store, "mmconfig.properties"), "utf8");
    assert.equal(text, torchserveConfig({ address, restAddress, grpcAddress, store }));
    const inPod = { address: "127.0.0.1:7071", restAddress: "10.0.0.7:8083", grpcAddress: "[fd00::7]:7070", store: "/models/s" };
    const lines = torchserveConfig(inPod).split("\n");
    for (const line of [
      "inference_address=http://0.0.0.0:8083",
      "management_address=http://127.0.0.1:7071",
      "grpc_inference_address=0.0.0.0",
      "grpc_inference_port=7070",
      "model_store=/models/s",
    ]) {
      assert.ok(lines.includes(line), line);
    }
  });
});

test("a worker of TorchServe that the kernel kills for want of memory while it loads had too little", {
  timeout: 300_000,
}, async (context) => {
  await using group = await openMemoryGroup();
  context.diagnostic(group === undefined ? "no memory group here: nothing is killed for memory" : "in a memory group");
  if (group === undefined) return;
  await using server = await openTorchserve({ under: group.under });
  await using driver = openDriver(server);
  const signal = context.signal;
  const load = (archive: string): Promise<Loaded | Failure> => {
    const path = join(server.models, `${archive}.mar`);
    return driver.load({ serverName: archive, revision: "r1", path, format: "pytorch-mar", expectedBytes: 1, signal });
  };
  assert.equal((await load("twice")).kind, "ok");
  // The worker comes to take more than the server, so that it is the one to be killed.
  await group.limit(400 * mebibyte);
  const failed = await load("large");
  assert.equal(failed.kind === "failed" && failed.failure, "capacity", JSON.stringify(failed));
  assert.equal(await group.kills(), 1);
  await group.limit(1_024 * mebibyte);
  assert.equal((await load("large")).kind, "ok");
});

/** PredictionsRequest of TorchServe's inference.proto: model_name = 1, input = 3 (a map). */
function predictionsRequest(model: string, body: string): Buffer {
  const field = (number: number, bytes: Buffer): Buffer => {
    assert.ok(bytes.length < 128);
    return Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes]);
  };
  const entry = Buffer.concat([field(1, Buffer.from("data")), field(2, Buffer.from(body))]);
  return Buffer.concat([field(1, Buffer.from(model)), field(3, entry)]);
}

function scriptOf(store: string): Script {
  return ({ method, path, query }, held) => {
    const name = /^\/models\/([^/]+)$/.exec(path)?.[1];
    const fail = (code: number, type: string, message: string): ReturnType<Script> => ({
      status: code,
      body: { code, type, message },
    });
    if (path === "/models" && method === "GET") {
      const from = Number(query.get("next_page_token") ?? 0);
      const limit = Number(query.get("limit") ?? 100);
      const models = [...held.keys()].slice(from, from + limit).map((modelName) => ({ modelName, modelUrl: `${modelName}.mar` }));
      return { status: 200, body: { ...(held.size > from + limit ? { nextPageToken: `${from + limit}` } : {}), models } };
    }
    if (path === "/models" && method === "POST") {
      const archive = query.get("url") ?? "";
      const model = query.get("model_name") ?? "";
      if (held.has(model)) {
        return fail(409, "ConflictStatusException", `Model version 1.0 is already registered for model ${model}`);
      }
      if (!existsSync(join(store, archive))) return fail(404, "ModelNotFoundException", `Model not found at: ${archive}`);
      // It stays registered when its worker fails.
      held.set(model, archive);
      const text = readFileSync(join(store, archive), "utf8");
      const failed = `Failed to start workers for model ${model} version: 1.0`;
      if (text === "large") return fail(507, "InternalServerException", failed);
      if (text !== "good") return fail(500, "InternalServerException", failed);
      return { status: 200, body: { status: `Model "${model}" Version: 1.0 registered with 1 initial workers` } };
    }
    if (name === undefined || !held.has(name)) return fail(404, "ModelNotFoundException", `Model not found: ${name}`);
    if (method === "DELETE") {
      held.delete(name);
      return { status: 200, body: { status: `Model "${name}" unregistered` } };
    }
    // What it takes is told a minute later.
    const workers = [{ id: "9000", status: "READY", memoryUsage: 0, pid: 2 ** 30, gpu: false, gpuUsage: "N/A" }];
    return { status: 200, body: [{ modelName: name, modelVersion: "1.0", modelUrl: held.get(name), workers }] };
  };
}

async function openScriptedHarness(): Promise<DriverHarness> {
  const folder = await openRunFolder();
  const at = (...names: string[]): string => join(folder.path, ...names);
  for (const name of ["good", "broken", "large"]) await writeFile(at(`${name}.mar`), name);
  const store = at("store");
  const server = await openScripted(scriptOf(store));
  const { address } = server;
  const addresses = { address, restAddress: address, grpcAddress: address, store };
  return {
    openDriver: () =>
      createForeignDriver(createTorchserve(addresses), createRecord(at("copies")), {
        clock: systemClock,
      }),
    format: "pytorch-mar",
    goodPath: at("good.mar"),
    brokenPath: at("broken.mar"),
    absentPath: at("absent.mar"),
    exhaustingPath: at("large.mar"),
    kill: () => server.kill(),
    revive: () => server.revive(),
    hang: () => server.hang(),
    resume: () => server.resume(),
    forget: async (serverName) => void server.held.delete(serverName),
    async [Symbol.asyncDispose](): Promise<void> {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describeDriver("TorchServe (scripted)", openScriptedHarness);
