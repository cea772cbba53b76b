// A real MLServer, which tells no sizes, under a memory limit that the kernel enforces: 500 models of mixed sizes, many times
// what fits, go through it. What keeps it below the limit is only what the adapter sees of the process.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { inspect, promisify } from "node:util";
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { createRestClient } from "#test/harness/http.ts";
import { openMemoryGroup } from "#test/harness/memorygroup.ts";
import { mlserverPython, openMlserver } from "#test/harness/mlserver.ts";
import { scriptFolder } from "#test/harness/python.ts";
import { openAdapter } from "./adapter.ts";
import { createForeignDriver } from "./drivers/foreign.ts";
import { createProcessMeter } from "./drivers/memory/processes.ts";
import { createMlserver } from "./drivers/mlserver.ts";
import { createRecord } from "./drivers/record.ts";
import { createFilePuller } from "./pull/local.ts";
import { createPullers } from "./pull/puller.ts";
import { openTestGateway } from "./testing/gateway.ts";

const mebibyte = 2 ** 20;
const models = 500;
const asks = 800;
/** Beside what the server takes with its libraries: what the kernel lets it have, and what the adapter may use of that. */
const kernelBytes = 64 * mebibyte;
const adapterBytes = 48 * mebibyte;
const never = new AbortController().signal;

test("500 models of mixed sizes within a memory limit that the kernel enforces", { timeout: 600_000 }, async (context) => {
  const python = await mlserverPython();
  const artefacts = await scriptFolder("mixed-models", python, new URL("../test/servers/mixed.py", import.meta.url).pathname);
  const { row, answers } = JSON.parse(await readFile(join(artefacts, "answers.json"), "utf8")) as {
    row: number[];
    answers: Record<string, number>;
  };
  const kinds = Object.keys(answers);
  const kindOf = (at: number): string => kinds[(at * 7) % kinds.length] ?? "";
  await using group = await openMemoryGroup();
  await using server = await openMlserver(group === undefined ? {} : { under: group.under });
  const meter = createProcessMeter(server.restAddress);
  const driver = createForeignDriver(
    createMlserver({ address: server.restAddress, grpcAddress: server.grpcAddress, root: server.root }),
    createRecord(`${server.root}.copies`),
    { clock: systemClock, memory: meter },
  );
  await using client = createRestClient(`http://${server.restAddress}`);
  const infer = async (model: string, kind: string): Promise<void> => {
    const body = { inputs: [{ name: "x", datatype: "FP64", shape: [1, 8], data: row }] };
    const answer = await client.ask(`/v2/models/${model}/infer`, { method: "POST", body });
    assert.equal(answer.status, 200, `${model}: ${answer.text}`);
    assert.equal(JSON.parse(answer.text).outputs[0].data[0], answers[kind], model);
  };
  // Its libraries are in memory before the limit is set.
  for (const kind of ["forest-3", "neighbours-10"]) {
    const warm = { serverName: "warm", revision: kind, path: join(artefacts, kind), format: "sklearn", signal: never };
    assert.equal((await driver.load({ ...warm, expectedBytes: 1 })).kind, "ok");
    await infer("warm", kind);
    assert.equal((await driver.unload("warm", never)).kind, "ok");
  }
  const ownBytes = (await meter.read(never)) ?? assert.fail("the server's process cannot be seen");
  const limitBytes = (await dataBytes(server.pid)) + kernelBytes;
  if (group !== undefined) await group.limit(kernelBytes);
  // The next best: it counts what is reserved, and who exceeds it is refused memory and not killed.
  else await promisify(execFile)("prlimit", ["--pid", `${server.pid}`, `--data=${limitBytes}:${limitBytes}`]);
  context.diagnostic(`held to it by ${group === undefined ? "RLIMIT_DATA" : "a control group"}`);

  await using adapter = await openAdapter({
    pod: {
      podId: "p",
      runtime: "mlserver",
      restAddress: "127.0.0.1:1",
      grpcAddress: "127.0.0.1:2",
      labels: {},
      formats: ["sklearn"],
    },
    // Far more than there is: the limit alone holds it back.
    holding: { capacityBytes: 2 ** 40, memoryLimitBytes: ownBytes + adapterBytes, minAgeMs: 0 },
    driver,
    puller: createPullers({ file: createFilePuller({ storageRoot: artefacts }) }),
    link: { host: "127.0.0.1", port: 0 },
    log: silentLog,
    compareMs: 1_000,
  });
  using gateway = openTestGateway(adapter.linkAddress);
  let most = { ready: 0, grownBytes: 0 };
  let loads = 0;
  let seed = 11;
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const askFor = async (at: number): Promise<void> => {
    const [model, kind] = [`m-${at}`, kindOf(at)];
    if (gateway.copies.get(`${model}@r1`)?.state !== CopyState.READY) {
      loads += 1;
      gateway.load(model, { storageUri: `file://${join(artefacts, kind)}`, format: "sklearn", waitMs: 60_000 });
      const seen = (): unknown => ({ copy: gateway.copies.get(`${model}@r1`), refused: gateway.refused, state: adapter.state() });
      const copy = await waitFor(
        () => {
          const found = gateway.copies.get(`${model}@r1`);
          if (found?.state === CopyState.FAILED || gateway.refused.length > 0) throw new Error(inspect(seen()));
          return found?.state === CopyState.READY ? found : undefined;
        },
        { timeoutMs: 60_000 },
      ).catch((cause: unknown) => {
        throw new Error(`${model} (${kind}): ${inspect(seen(), { depth: 4 })}`, { cause });
      });
      assert.ok(copy.sizeBytes > 0n);
    }
    // It may have left again for another one that is loaded beside it; then there is nothing to ask.
    await infer(model, kind).catch((error: unknown) => {
      if (gateway.copies.get(`${model}@r1`)?.state === CopyState.READY) throw error;
    });
    const grownBytes = ((await meter.read(never)) ?? 0) - ownBytes;
    most = { ready: Math.max(most.ready, adapter.state().gauges.ready), grownBytes: Math.max(most.grownBytes, grownBytes) };
  };
  const order = [...Array(models).keys(), ...Array.from({ length: asks - models }, () => random(models))];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = order[next++]; at !== undefined; at = order[next++]) await askFor(at);
  };
  await Promise.all([work(), work(), work()]);

  const wantedBytes = (
    await Promise.all(order.slice(0, models).map((at) => stat(join(artefacts, kindOf(at), "model.joblib"))))
  ).reduce((sum, { size }) => sum + size, 0);
  const { gauges } = adapter.state();
  context.diagnostic(JSON.stringify({ loads, most, wantedBytes, ownBytes, gauges }));
  assert.equal(server.exit, undefined, server.tail());
  assert.equal(gauges.loadFailures, 0, server.tail());
  assert.deepEqual(gateway.refused, []);
  assert.deepEqual(gateway.faults, []);
  if (group !== undefined) assert.equal(await group.kills(), 0);
  else assert.match(await readFile(`/proc/${server.pid}/limits`, "utf8"), new RegExp(`Max data size\\s+${limitBytes}`));
  assert.ok(wantedBytes > 4 * kernelBytes, "they do not all fit");
  assert.ok(most.grownBytes <= 1.2 * adapterBytes, `${most.grownBytes} bytes: the adapter's limit held, but for a moment`);
  assert.ok(most.grownBytes > 0.7 * adapterBytes && most.ready > 25, "what there is, is used");
});

/** What RLIMIT_DATA counts. */
async function dataBytes(pid: number): Promise<number> {
  const found = /^VmData:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1] ?? assert.fail("no VmData")) * 1_024;
}
