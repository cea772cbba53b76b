// Holds the driver of MLServer to the contract, over the real server with real models.
import assert from "node:assert/strict";
import { mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { identityGraph } from "#runtimes/onnx/testing/graphs.ts";
import { createRestClient } from "#test/harness/http.ts";
import { type Mlserver, openMlserver } from "#test/harness/mlserver.ts";
import { mishapsOf } from "#test/harness/modelserver.ts";
import type { Driver } from "./driver.ts";
import { createForeignDriver } from "./foreign.ts";
import { createMlserver, thrownIn } from "./mlserver.ts";
import { createRecord } from "./record.ts";
import { type DriverHarness, describeDriver, startDriver } from "./suite.ts";

function openDriver({ restAddress, grpcAddress, root }: Mlserver): Driver {
  const server = createMlserver({ address: restAddress, grpcAddress, root });
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
    ...mishapsOf(server),
    async forget(serverName): Promise<void> {
      await using client = createRestClient(`http://${server.restAddress}`);
      const answer = await client.ask(`/v2/repository/models/${serverName}/unload`, { method: "POST", body: {} });
      assert.equal(answer.status, 200, answer.text);
    },
  };
}

describeDriver("MLServer", openHarness);

describe("what is special about MLServer", { timeout: 120_000 }, () => {
  let server: Mlserver;
  let driver: Driver;
  let started: AsyncDisposable;
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
    started = await startDriver(driver);
  });
  after(async () => {
    await started[Symbol.asyncDispose]();
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

/** What is there in all is enough for MLServer, and not for what these models want. */
const addressSpaceBytes = 16 * 2 ** 30;

for (const debug of [true, false]) {
  test(`what a runtime throws is told as far as MLServer tells it, and memory refused is no bad model: debug ${debug}`, {
    timeout: 300_000,
  }, async ({ signal }) => {
    const under = ["sh", "-c", `ulimit -v ${addressSpaceBytes / 1_024} && exec "$@"`, "sh"] as const;
    await using server = await openMlserver({ debug, under: [...under] });
    await using driver = openDriver(server);
    const throwing = async (serverName: string, statement: string): Promise<string> => {
      const folder = join(server.models, serverName);
      await mkdir(folder);
      await writeFile(join(folder, "model-settings.json"), JSON.stringify({ implementation: "throws.Throws" }));
      await writeFile(join(folder, "throws.py"), throws(statement));
      const request = { serverName, revision: "r1", path: folder, format: "custom", expectedBytes: 1, signal };
      const loaded = await driver.load(request);
      assert.equal(await driver.ready(serverName, "r1", signal), loaded.kind === "ok");
      return loaded.kind === "ok" ? "ok" : `${loaded.failure}: ${loaded.reason}`;
    };
    assert.equal(await throwing("fine", "pass"), "ok");
    assert.match(await throwing("array", "numpy.empty(2**40)"), /^capacity: .*Unable to allocate 8\.00 TiB/);
    assert.match(await throwing("bad", "raise ValueError('no such\\nthing')"), /^model: .*no such thing$/);
    const wordless = await throwing("bytes", "bytearray(2**42)");
    assert.equal(wordless, debug ? "capacity: MLServer could not load it: MemoryError" : `model: ${unsaid}`);
    assert.equal(
      await throwing("nothing", "raise ValueError()"),
      `model: ${debug ? "MLServer could not load it: ValueError" : unsaid}`,
    );
    // What refused memory to one has it for the next.
    assert.equal(await throwing("after", "numpy.ones(2**20)"), "ok");
  });
}

test("the exception at the end of a traceback is found, whatever its words", () => {
  const frames = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n    ^^^\n';
  assert.equal(thrownIn(`${frames}MemoryError\n`), "MemoryError");
  assert.equal(thrownIn(`${frames}a.B: one\n  two\nthree\n`), "a.B: one   two three");
  assert.equal(thrownIn("Internal Server Error"), undefined);
  assert.equal(thrownIn(frames), undefined);
});

const unsaid = "MLServer could not load it, and its log says why";

function throws(statement: string): string {
  return `import numpy
from mlserver import MLModel

class Throws(MLModel):
    async def load(self):
        ${statement}
        return True
`;
}

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
