// A real MLServer that dies in the middle of a load: killed by the kernel for want of memory, and ended by somebody.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import { CopyState, FailureKind } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { openMemoryGroup } from "#test/harness/memorygroup.ts";
import { mlserverPython, openMlserver } from "#test/harness/mlserver.ts";
import { scriptFolder } from "#test/harness/python.ts";
import { openAdapter } from "./adapter.ts";
import { createForeignDriver } from "./drivers/foreign.ts";
import { createKillMeter } from "./drivers/memory/kills.ts";
import { createMlserver } from "./drivers/mlserver.ts";
import { createRecord } from "./drivers/record.ts";
import { createFilePuller } from "./pull/local.ts";
import { createPullers } from "./pull/puller.ts";
import { openTestGateway } from "./testing/gateway.ts";

const mebibyte = 2 ** 20;
const waitMs = 300_000;

test("a death for want of memory is no fault of the model, and another death is suspect", {
  timeout: 1_200_000,
}, async (context) => {
  const python = await mlserverPython();
  const script = (name: string): string => new URL(`../test/servers/${name}`, import.meta.url).pathname;
  const mixed = await scriptFolder("mixed-models", python, script("mixed.py"));
  const large = await scriptFolder("large-model", python, script("large.py"));
  await using group = await openMemoryGroup();
  await using server = await openMlserver(group === undefined ? {} : { under: group.under });
  const driver = createForeignDriver(
    createMlserver({ address: server.restAddress, grpcAddress: server.grpcAddress, root: server.root }),
    createRecord(`${server.root}.copies`),
    { clock: systemClock },
  );
  await using adapter = await openAdapter({
    pod: {
      podId: "p",
      runtime: "mlserver",
      restAddress: server.restAddress,
      grpcAddress: server.grpcAddress,
      labels: {},
      formats: ["sklearn"],
    },
    holding: { capacityBytes: 64 * mebibyte, minAgeMs: 0, deadPatienceMs: waitMs },
    driver,
    kills: createKillMeter(server.restAddress),
    puller: createPullers({ file: createFilePuller({ storageRoot: dirname(mixed) }) }),
    link: { host: "127.0.0.1", port: 0 },
    log: silentLog,
    loadTimeoutMs: waitMs,
  });
  using gateway = openTestGateway(adapter.linkAddress);
  const load = (model: string, folder = join(mixed, model)): void =>
    gateway.load(model, { storageUri: `file://${folder}`, format: "sklearn", waitMs });
  /** Unlike waiting for READY alone, says at once why it does not come. */
  const bring = async (model: string, folder?: string): Promise<void> => {
    const seen = (): readonly CopyState[] => gateway.states.get(`${model}@r1`) ?? [];
    const before = seen().length;
    load(model, folder);
    const isOver = (): CopyState | undefined =>
      seen()
        .slice(before)
        .find((state) => state === CopyState.READY || state === CopyState.FAILED);
    const state = await waitFor(() => isOver() ?? gateway.refused.length > 0, { timeoutMs: waitMs }).catch(() => undefined);
    const { failure } = gateway.copies.get(`${model}@r1`) ?? {};
    assert.equal(state, CopyState.READY, inspect({ model, failure, refused: gateway.refused, state: adapter.state() }));
  };

  // Held is nothing: a copy that no longer answers is not what tells of the death.
  process.kill(server.pid, "SIGSTOP");
  load("tree-1");
  // What it is to read is there: the load is past the adapter.
  await waitFor(async () => (await readdir(server.root)).length > 0, { timeoutMs: waitMs });
  await server.kill();
  const { failure: ended } = await gateway.reaches("tree-1", CopyState.FAILED, waitMs);
  assert.deepEqual([ended?.kind, ended?.suspects], [FailureKind.SERVER_DIED, 1], ended?.reason ?? "");

  await server.revive();
  await waitFor(() => adapter.state().serverUp, { timeoutMs: waitMs });
  await bring("tree-1");
  context.diagnostic(group === undefined ? "no memory group here: nothing is killed for memory" : "in a memory group");
  if (group === undefined) return;
  // Far less than the load takes: the kernel makes room first, and a library's pages can be read anew.
  await group.limit(2 * mebibyte);
  load("large", large);
  const { failure } = await gateway.reaches("large", CopyState.FAILED, waitMs);
  assert.deepEqual([failure?.kind, failure?.suspects], [FailureKind.CAPACITY, 0], failure?.reason ?? "");
  assert.equal(await group.kills(), 1);

  await group.limit(1_024 * mebibyte);
  await server.revive();
  await waitFor(() => adapter.state().serverUp, { timeoutMs: waitMs });
  // With all that there is to it alone, it is tried again: it was not bad.
  await bring("large", large);
  await bring("tree-2");
});
