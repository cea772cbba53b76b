// Holds the driver of ModelMesh's runtime contract to ours, over a gRPC server that speaks it, on a port and on a socket.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { status as codes, Server, type sendUnaryData } from "@grpc/grpc-js";
import { systemClock } from "#platform/clock.ts";
import { addService, bindServer } from "#platform/grpc.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import {
  LoadModelResponseSchema,
  ModelRuntime,
  ModelSizeResponseSchema,
  PredictModelSizeResponseSchema,
  RuntimeStatusResponse_Status,
  RuntimeStatusResponseSchema,
  UnloadModelResponseSchema,
} from "#proto/gen/mmesh/model_runtime_pb.ts";
import type { Driver } from "./driver.ts";
import { createForeignDriver } from "./foreign.ts";
import { createModelmesh } from "./modelmesh.ts";
import { createRecord } from "./record.ts";
import { type DriverHarness, describeDriver, startDriver } from "./suite.ts";

interface Runtime extends DriverHarness {
  readonly address: string;
  readonly held: Set<string>;
  /** Each call, such as `load m1`. */
  readonly calls: string[];
  readonly keys: string[];
  /** Answers to runtimeStatus before READY. */
  startingFor: number;
  /** What loadModel says of the size; with 0, modelSize says 4,096. */
  sizeInLoad: bigint;
  /** What runtimeStatus says. */
  loadTimeoutMs: number;
  /** What predictModelSize says; 0 is nothing, `not` that it is not implemented. */
  predicts: bigint | "not";
}

class ScriptedError extends Error {
  readonly code: codes;

  constructor(code: codes, message: string) {
    super(message);
    this.code = code;
  }
}

async function openRuntime(where: "port" | "socket"): Promise<Runtime> {
  const folder = await openRunFolder();
  const at = (name: string): string => join(folder.path, name);
  for (const name of ["good", "broken", "large", "refused"]) await writeFile(at(name), name);
  const held = new Set<string>();
  const calls: string[] = [];
  const keys: string[] = [];
  let hanging: PromiseWithResolvers<void> | undefined;
  let server: Server;
  let port = 0;
  const script: Pick<Runtime, "startingFor" | "sizeInLoad" | "predicts" | "loadTimeoutMs"> = {
    startingFor: 0,
    sizeInLoad: 2_048n,
    predicts: 0n,
    loadTimeoutMs: 60_000,
  };

  const unary = <T>(done: sendUnaryData<T>, work: () => Promise<T>): void => {
    const run = async (): Promise<void> => {
      try {
        await hanging?.promise;
        const answer = await work();
        done(null, answer);
      } catch (error) {
        done(error instanceof ScriptedError ? { code: error.code, details: error.message } : { code: codes.INTERNAL });
      }
    };
    void run();
  };
  const fail = (code: codes, message: string): ScriptedError => new ScriptedError(code, message);

  const listen = async (): Promise<void> => {
    server = new Server();
    addService(server, ModelRuntime, {
      loadModel: ({ request }, done) =>
        unary(done, async () => {
          const { modelId, modelPath, modelKey } = request;
          calls.push(`load ${modelId}`);
          keys.push(modelKey);
          const text = await readFile(modelPath, "utf8");
          if (text === "refused") throw fail(codes.FAILED_PRECONDITION, "not my kind of model");
          if (text === "large") throw fail(codes.RESOURCE_EXHAUSTED, "too large");
          if (text !== "good") throw fail(codes.INTERNAL, "cannot parse it");
          held.add(modelId);
          return create(LoadModelResponseSchema, { sizeInBytes: script.sizeInLoad });
        }),
      unloadModel: ({ request }, done) =>
        unary(done, async () => {
          calls.push(`unload ${request.modelId}`);
          held.delete(request.modelId);
          return create(UnloadModelResponseSchema);
        }),
      predictModelSize: ({ request }, done) =>
        unary(done, async () => {
          calls.push(`predict ${request.modelId} ${request.modelType} ${request.modelPath}`);
          if (script.predicts === "not") throw fail(codes.UNIMPLEMENTED, "no");
          return create(PredictModelSizeResponseSchema, { sizeInBytes: script.predicts });
        }),
      modelSize: (_, done) => unary(done, async () => create(ModelSizeResponseSchema, { sizeInBytes: 4_096n })),
      runtimeStatus: (_, done) =>
        unary(done, async () => {
          calls.push("status");
          if (script.startingFor > 0) {
            script.startingFor -= 1;
            return create(RuntimeStatusResponseSchema, { status: RuntimeStatusResponse_Status.STARTING });
          }
          held.clear();
          return create(RuntimeStatusResponseSchema, {
            status: RuntimeStatusResponse_Status.READY,
            modelLoadingTimeoutMs: script.loadTimeoutMs,
            capacityInBytes: 5_000n,
            maxLoadingConcurrency: 3,
            defaultModelSizeInBytes: 700n,
            limitModelConcurrency: true,
          });
        }),
    });
    port = await bindServer(server, where === "socket" ? `unix:${at("runtime.sock")}` : `127.0.0.1:${port}`);
  };
  await listen();
  const kill = async (): Promise<void> => {
    server.forceShutdown();
    held.clear();
    hanging?.reject(new Error("killed"));
    hanging = undefined;
  };
  const address = where === "socket" ? `unix:${at("runtime.sock")}` : `127.0.0.1:${port}`;
  return Object.assign(script, {
    address,
    held,
    calls,
    keys,
    openDriver: () => createForeignDriver(createModelmesh({ address }), createRecord(at("copies")), { clock: systemClock }),
    format: "own",
    goodPath: at("good"),
    brokenPath: at("broken"),
    absentPath: at("absent"),
    exhaustingPath: at("large"),
    kill,
    revive: listen,
    hang(): void {
      hanging ??= Promise.withResolvers<void>();
      hanging.promise.catch(() => undefined);
    },
    resume(): void {
      hanging?.resolve();
      hanging = undefined;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await kill();
      await folder[Symbol.asyncDispose]();
    },
  });
}

describeDriver("a runtime of ModelMesh's contract, on a port", () => openRuntime("port"));
describeDriver("a runtime of ModelMesh's contract, on a unix socket", () => openRuntime("socket"));

describe("what ModelMesh's runtimes rely on", { timeout: 60_000 }, () => {
  const never = new AbortController().signal;
  const withDriver = async (
    work: (runtime: Runtime, driver: Driver) => Promise<void>,
    scripted: Partial<Pick<Runtime, "startingFor" | "loadTimeoutMs">> = {},
  ): Promise<void> => {
    await using runtime = await openRuntime("port");
    Object.assign(runtime, scripted);
    await using driver = runtime.openDriver();
    const stop = new AbortController();
    const run = driver.start({ onUp: () => undefined, onLost: () => undefined }, stop.signal);
    await waitFor(() => driver.alive());
    await work(runtime, driver);
    stop.abort();
    await run;
  };
  const request = (runtime: Runtime, serverName: string, path = runtime.goodPath): Parameters<Driver["load"]>[0] => ({
    serverName,
    revision: "r1",
    path,
    format: "own",
    formatVersion: "2",
    expectedBytes: 1,
    signal: never,
  });

  test("runtimeStatus is asked until READY and then never again, since it purges", async () => {
    await withDriver(
      async (runtime, driver) => {
        assert.equal(runtime.calls.filter((call) => call === "status").length, 4);
        await driver.load(request(runtime, "m1"));
        for (let n = 0; n < 5; n++) await driver.list(never);
        assert.equal(runtime.calls.filter((call) => call === "status").length, 4);
        assert.ok(runtime.held.has("m1"));
      },
      { startingFor: 3 },
    );
  });

  test("the model's type, size on the disk and path are told as ModelMesh tells them", async () => {
    await withDriver(async (runtime, driver) => {
      await driver.load({ ...request(runtime, "m1"), schemaPath: "schema.json" });
      assert.deepEqual(JSON.parse(runtime.keys[0] ?? ""), {
        model_type: { name: "own", version: "2" },
        disk_size_bytes: 4,
        schema_path: runtime.goodPath.replace(/good$/, "schema.json"),
      });
    });
  });

  test("the size is the load's, else modelSize's", async () => {
    await withDriver(async (runtime, driver) => {
      assert.deepEqual(await driver.load(request(runtime, "m1")), { kind: "ok", sizeBytes: 2_048, measured: true });
      runtime.sizeInLoad = 0n;
      assert.deepEqual(await driver.load(request(runtime, "m2")), { kind: "ok", sizeBytes: 4_096, measured: true });
    });
  });

  test("what the runtime predicts and says of itself is heard; one that cannot predict is not asked again", async () => {
    await withDriver(async (runtime, driver) => {
      assert.deepEqual(driver.limits?.(), {
        capacityBytes: 5_000,
        loadConcurrency: 3,
        loadTimeoutMs: 60_000,
        defaultSizeBytes: 700,
        unheeded: ["limitModelConcurrency"],
        idInjections: [],
      });
      const asked = { serverName: "m1", format: "own", formatVersion: "2", storageUri: "s3://bucket/m", artefactBytes: 7 };
      assert.equal(await driver.predictBytes?.(asked, never), undefined);
      runtime.predicts = 900n;
      assert.equal(await driver.predictBytes?.(asked, never), 900);
      assert.deepEqual(runtime.calls.slice(-1), ["predict m1 mt:own:2 m"]);
      runtime.predicts = "not";
      assert.equal(await driver.predictBytes?.(asked, never), undefined);
      const calls = runtime.calls.length;
      assert.equal(await driver.predictBytes?.(asked, never), undefined);
      assert.equal(runtime.calls.length, calls);
    });
  });

  test("a load has as long as the runtime says", async () => {
    await withDriver(
      async (runtime, driver) => {
        runtime.hang();
        const failed = await driver.load(request(runtime, "m1"));
        assert.equal(failed.kind === "failed" && failed.failure, "pod");
        runtime.resume();
      },
      { loadTimeoutMs: 150 },
    );
  });

  test("one that fetches by itself is told path and key as they are, before the load and for it", async () => {
    await using runtime = await openRuntime("port");
    await using folder = await openRunFolder();
    const server = createModelmesh({ address: runtime.address, fetches: true });
    await using driver = createForeignDriver(server, createRecord(join(folder.path, "copies")), { clock: systemClock });
    await using _ = await startDriver(driver);
    const artefact = {
      storageUri: "s3://models/a/b",
      storageKey: "minio",
      storageParameters: { region: "eu" },
      schemaPath: "a/schema.json",
    };
    const path = runtime.goodPath;
    assert.equal((await driver.load({ ...request(runtime, "m1", path), artefact })).kind, "ok");
    assert.deepEqual(JSON.parse(runtime.keys.at(-1) ?? ""), {
      storage_key: "minio",
      storage_params: { type: "s3", bucket: "models", region: "eu" },
      model_type: { name: "own", version: "2" },
      schema_path: "a/schema.json",
    });
    runtime.predicts = 5n;
    const asked = { serverName: "m1", format: "own", artefactBytes: 0, ...artefact };
    assert.equal(await driver.predictBytes?.(asked, never), 5);
    assert.equal(runtime.calls.at(-1), "predict m1 mt:own a/b");
  });

  test("a refusal took no space and is followed by no unload; another failure is", async () => {
    await withDriver(async (runtime, driver) => {
      const refused = await driver.load(request(runtime, "m1", runtime.goodPath.replace(/good$/, "refused")));
      assert.equal(refused.kind === "failed" && refused.failure, "model");
      assert.ok(!runtime.calls.includes("unload m1"));
      await driver.load(request(runtime, "m2", runtime.brokenPath));
      assert.ok(runtime.calls.includes("unload m2"));
    });
  });

  test("a load that is given up is followed by an unload, and leaves nothing", async () => {
    await withDriver(async (runtime, driver) => {
      runtime.hang();
      const given = driver.load({ ...request(runtime, "m1"), signal: AbortSignal.timeout(50) });
      await assert.rejects(given, { name: "TimeoutError" });
      runtime.resume();
      await waitFor(() => runtime.calls.includes("unload m1"));
      assert.deepEqual(await driver.unload("m1", never), { kind: "ok" });
      assert.ok(!runtime.held.has("m1"));
    });
  });
});
