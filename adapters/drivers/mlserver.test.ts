// Holds the driver of MLServer to the contract, over the real server with real models.
import assert from "node:assert/strict";
import { mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { waitFor } from "#platform/testing.ts";
import { identityGraph } from "#runtimes/onnx/testing/graphs.ts";
import { createRestClient } from "#test/harness/http.ts";
import { type Mlserver, openMlserver } from "#test/harness/mlserver.ts";
import type { Driver } from "./driver.ts";
import { createForeignDriver } from "./foreign.ts";
import { createMlserver } from "./mlserver.ts";
import { createRecord } from "./record.ts";
import { type DriverHarness, describeDriver } from "./suite.ts";

function openDriver({ restAddress, root }: Mlserver): Driver {
  const server = createMlserver({ address: restAddress, root });
  return createForeignDriver(server, createRecord(`${root}.copies`), { clock: systemClock });
}

async function openHarness(): Promise<DriverHarness> {
  const server = await openMlserver();
  return {
    openDriver: () => openDriver(server),
    format: "sklearn",
    goodPath: join(server.models, "sklearn"),
    brokenPath: join(server.models, "broken.joblib"),
    absentPath: join(server.models, "absent.joblib"),
    kill: () => server.kill(),
    revive: () => server.revive(),
    hang: () => void process.kill(server.pid, "SIGSTOP"),
    resume: () => void process.kill(server.pid, "SIGCONT"),
    async forget(serverName): Promise<void> {
      await using client = createRestClient(`http://${server.restAddress}`);
      const answer = await client.ask(`/v2/repository/models/${serverName}/unload`, { method: "POST", body: {} });
      assert.equal(answer.status, 200, answer.text);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

describeDriver("MLServer", openHarness);

describe("what is special about MLServer", { timeout: 120_000 }, () => {
  let server: Mlserver;
  let driver: Driver;
  let started: Promise<void>;
  const stop = new AbortController();
  const never = new AbortController().signal;
  const load = (serverName: string, format: string, path = join(server.models, format)): ReturnType<Driver["load"]> =>
    driver.load({ serverName, revision: "r1", path, format, expectedBytes: 1_000, signal: never });
  const infer = async (serverName: string): Promise<readonly number[]> => {
    await using client = createRestClient(`http://${server.restAddress}`);
    const data = server.answers.rows.flat();
    const inputs = [{ name: "x", datatype: "FP64", shape: [server.answers.rows.length, 4], data }];
    const answer = await client.ask(`/v2/models/${serverName}/infer`, { method: "POST", body: { inputs } });
    assert.equal(answer.status, 200, answer.text);
    return JSON.parse(answer.text).outputs[0].data;
  };

  before(async () => {
    server = await openMlserver();
    driver = openDriver(server);
    started = driver.start({ onUp: () => undefined, onLost: () => undefined }, stop.signal);
    await waitFor(() => driver.alive());
  });
  after(async () => {
    stop.abort();
    await started;
    await driver[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  for (const format of ["sklearn", "lightgbm", "xgboost"] as const) {
    test(`a real model of ${format} answers as it does alone, also in a slot`, async () => {
      const loaded = await load(`${format}~7`, format);
      assert.equal(loaded.kind, "ok", JSON.stringify(loaded));
      const answers = await infer(`${format}~7`);
      assert.equal(answers.length, server.answers[format].length);
      for (const [at, answer] of answers.entries()) assert.ok(Math.abs(answer - (server.answers[format][at] ?? 0)) < 1e-5);
    });
  }

  test("an ONNX model answers by the class that comes with the adapter", async () => {
    const path = join(server.models, "m.onnx");
    await writeFile(path, identityGraph("FP32"));
    assert.equal((await load("onnx", "onnx", path)).kind, "ok");
    await using client = createRestClient(`http://${server.restAddress}`);
    const metadata = await client.ask("/v2/models/onnx");
    const inputs = JSON.parse(metadata.text).inputs;
    assert.equal(inputs[0].datatype, "FP32");
    const body = { inputs: [{ name: inputs[0].name, datatype: "FP32", shape: [2], data: [1.5, -2] }] };
    const answer = await client.ask("/v2/models/onnx/infer", { method: "POST", body });
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(JSON.parse(answer.text).outputs[0].data, [1.5, -2]);
  });

  test("settings and code in an artefact are used, and each model has its own", async () => {
    for (const factor of [2, 3]) {
      const folder = join(server.models, `own-${factor}`);
      await mkdir(folder);
      await writeFile(join(folder, "model-settings.json"), JSON.stringify({ name: "other", implementation: "scale.Scale" }));
      await writeFile(join(folder, "scale.py"), scale(factor));
      const loaded = await load(`own-${factor}`, "custom", folder);
      assert.equal(loaded.kind, "ok", JSON.stringify(loaded));
    }
    const rows = server.answers.rows.flat();
    for (const factor of [2, 3]) {
      const answers = await infer(`own-${factor}`);
      assert.deepEqual(
        answers,
        rows.map((value) => value * factor),
      );
    }
  });

  test("its folder is empty whenever nothing loads, so that no load reads the settings of others", async () => {
    assert.deepEqual(await readdir(server.root), []);
    assert.deepEqual((await readdir(`${server.root}.held`)).toSorted(), [
      "lightgbm~7",
      "onnx",
      "own-2",
      "own-3",
      "sklearn~7",
      "xgboost~7",
    ]);
  });

  test("what an adapter that died in a load left there is taken away", async () => {
    await symlink(server.models, join(server.root, "left"));
    await using other = openDriver(server);
    const request = { revision: "r1", path: join(server.models, "sklearn"), format: "sklearn", expectedBytes: 1, signal: never };
    assert.equal((await other.load({ ...request, serverName: "more" })).kind, "ok");
    assert.deepEqual(await readdir(server.root), []);
    assert.equal((await other.unload("more", never)).kind, "ok");
  });

  test("another revision in the same slot takes the place of the first", async () => {
    const request = {
      serverName: "again",
      path: join(server.models, "sklearn"),
      format: "sklearn",
      expectedBytes: 1,
      signal: never,
    };
    assert.equal((await driver.load({ ...request, revision: "r1" })).kind, "ok");
    const second = { ...request, revision: "r2", path: join(server.models, "lightgbm"), format: "lightgbm" };
    assert.equal((await driver.load(second)).kind, "ok");
    assert.equal(await driver.ready("again", "r1", never), false);
    assert.equal(await driver.ready("again", "r2", never), true);
    assert.ok(Math.abs(((await infer("again"))[0] ?? 9) - (server.answers.lightgbm[0] ?? 0)) < 1e-5);
  });

  test("says in words what is wrong with settings", async () => {
    const folder = join(server.models, "wrong");
    await mkdir(folder);
    await writeFile(join(folder, "model-settings.json"), JSON.stringify({ implementation: "no.such.Class" }));
    const failed = await load("wrong", "custom", folder);
    assert.equal(failed.kind === "failed" && failed.failure, "model");
    const unknown = await load("unknown", "pmml", join(server.models, "sklearn"));
    assert.equal(unknown.kind === "failed" && unknown.failure, "model");
    assert.match(unknown.kind === "failed" ? unknown.reason : "", /no format pmml/);
  });
});

function scale(factor: number): string {
  return `from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Scale(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        value = NumpyCodec.decode_input(payload.inputs[0]) * ${factor}
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", value)])
`;
}
