// Holds the driver of Triton to the contract, over the real server, and to what is special about it.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { waitFor } from "#platform/testing.ts";
import { createRestClient, type RestAnswer } from "#test/harness/http.ts";
import { mishapsOf } from "#test/harness/modelserver.ts";
import { openTriton, type Triton } from "#test/harness/triton.ts";
import type { Driver } from "./driver.ts";
import { createForeignDriver } from "./foreign.ts";
import { createRecord } from "./record.ts";
import { type DriverHarness, describeDriver, startDriver } from "./suite.ts";
import { createTriton } from "./triton.ts";

function openDriver({ grpcAddress, repository }: Triton): Driver {
  const server = createTriton({ address: grpcAddress, repository });
  return createForeignDriver(server, createRecord(`${repository}.copies`), { clock: systemClock });
}

async function post(triton: Triton, path: string, body: unknown): Promise<RestAnswer> {
  await using client = createRestClient(`http://${triton.restAddress}`);
  return await client.ask(path, { method: "POST", body });
}

async function openHarness(): Promise<DriverHarness> {
  const triton = await openTriton();
  return {
    openDriver: () => openDriver(triton),
    format: "python",
    goodPath: join(triton.models, "addsub"),
    brokenPath: join(triton.models, "broken"),
    exhaustingPath: join(triton.models, "large"),
    absentPath: join(triton.models, "absent"),
    ...mishapsOf(triton),
    async forget(serverName): Promise<void> {
      const answer = await post(triton, `/v2/repository/models/${serverName}/unload`, {});
      assert.equal(answer.status, 200, answer.text);
    },
  };
}

describeDriver("Triton", openHarness);

describe("what is special about Triton", { timeout: 150_000 }, () => {
  let triton: Triton;
  let driver: Driver;
  let started: AsyncDisposable;
  const never = new AbortController().signal;
  const load = (serverName: string, model = "addsub"): ReturnType<Driver["load"]> =>
    driver.load({
      serverName,
      revision: "r1",
      path: join(triton.models, model),
      format: "python",
      expectedBytes: 1_000,
      signal: never,
    });
  const infer = (serverName: string, first: number): Promise<RestAnswer> => {
    const tensor = (name: string, data: readonly number[]): unknown => ({ name, datatype: "FP32", shape: [4], data });
    const inputs = [tensor("INPUT0", [first, 2, 3, 4]), tensor("INPUT1", [1, 1, 1, 1])];
    return post(triton, `/v2/models/${serverName}/infer`, { inputs });
  };

  before(async () => {
    triton = await openTriton();
    driver = openDriver(triton);
    started = await startDriver(driver);
  });
  after(async () => {
    await started[Symbol.asyncDispose]();
    await triton[Symbol.asyncDispose]();
  });

  test("what it loads answers, also in a slot", async () => {
    assert.equal((await load("addsub~15")).kind, "ok");
    const answer = await infer("addsub~15", 1);
    assert.equal(answer.status, 200, answer.text);
    assert.match(answer.text, /"data":\[2\.0,3\.0,4\.0,5\.0\]/);
  });

  test("a model without its file is refused at once, where Triton would load for ever", async () => {
    const refused = await load("missing", "missing");
    assert.deepEqual(refused, { kind: "failed", failure: "model", reason: "the model file of version 1 is not in the artefact" });
    assert.deepEqual((await readdir(triton.repository)).toSorted(), ["addsub~15"]);
  });

  test("what fails to load leaves nothing behind, and the reason is Triton's own", async () => {
    const broken = await load("broken", "broken");
    assert.ok(broken.kind === "failed" && broken.failure === "model");
    assert.match(broken.reason, /no model/);
    assert.deepEqual((await readdir(triton.repository)).toSorted(), ["addsub~15"]);
  });

  test("an unload is done when the index says so, and its process is gone", async () => {
    await load("gone");
    const index = async (): Promise<string> => (await post(triton, "/v2/repository/index", {})).text;
    assert.match(await index(), /"name":"gone"[^}]*"state":"READY"/);
    assert.deepEqual(await driver.unload("gone", never), { kind: "ok" });
    assert.doesNotMatch(await index(), /"name":"gone"[^}]*"(READY|UNLOADING|LOADING)"/);
    assert.deepEqual((await readdir(triton.repository)).toSorted(), ["addsub~15"]);
  });

  test("a model whose backend process died is found, and loads again", async () => {
    await load("mortal");
    assert.equal((await infer("mortal", 1)).status, 200);
    assert.notEqual((await driver.list(never)).kind, "failed");
    assert.notEqual((await infer("mortal", 666)).status, 200);
    // Triton still says that it is ready, and answers nothing but this.
    await waitFor(async () => /is not healthy/.test((await infer("mortal", 1)).text), { timeoutMs: 30_000 });
    assert.equal(await driver.ready("mortal", "r1", never), true);
    await waitFor(
      async () => {
        // It is asked all the while, as a model in use is: what a look finds unclear four times is suspected anew when more fails.
        await infer("mortal", 1);
        const listed = await driver.list(never);
        return listed.kind === "ok" && !listed.held.some(({ serverName }) => serverName === "mortal");
      },
      { timeoutMs: 30_000 },
    );
    assert.equal((await load("mortal")).kind, "ok");
    assert.equal((await infer("mortal", 1)).status, 200);
  });

  test("a model that is only asked wrong things stays", async () => {
    for (let n = 0; n < 3; n++) {
      assert.notEqual((await post(triton, "/v2/models/mortal/infer", { inputs: [] })).status, 200);
      const listed = await driver.list(never);
      assert.ok(listed.kind === "ok" && listed.held.some(({ serverName }) => serverName === "mortal"));
    }
  });
});
