// The Link over real streams, with the whole adapter in this process and a scripted model server behind it.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import { CopyState, FailureKind, LoadClass, LoadRefused_Why } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { type Adapter, type AdapterParts, openAdapter } from "../adapter.ts";
import type { HoldingOptions } from "../agent/holding.ts";
import type { Puller } from "../pull/puller.ts";
import { createFakeServer, type FakeServer } from "../testing/driver.ts";
import { openTestGateway, type TestGateway, type TestGatewayOptions } from "../testing/gateway.ts";

const puller: Puller = {
  probe: async () => ({ kind: "ok", sizeBytes: 10 }),
  pull: async ({ storageUri }) => ({
    kind: "ok",
    path: storageUri.slice("file://".length),
    sizeBytes: 10,
    release: async () => undefined,
  }),
};

interface Bench extends AsyncDisposable {
  readonly server: FakeServer;
  readonly adapter: Adapter;
  attach(options?: TestGatewayOptions): Promise<TestGateway>;
}

async function openBench(holding: Partial<HoldingOptions> = {}, parts: Partial<AdapterParts> = {}): Promise<Bench> {
  const server = createFakeServer();
  await using stack = new AsyncDisposableStack();
  const adapter = stack.use(
    await openAdapter({
      pod: {
        podId: "pod-1",
        runtime: "fake",
        restAddress: "127.0.0.1:1",
        grpcAddress: "127.0.0.1:2",
        labels: {},
        formats: ["fake:1"],
      },
      holding: { capacityBytes: 1_000, minAgeMs: 0, ...holding },
      driver: server.openDriver(systemClock),
      puller,
      link: { host: "127.0.0.1", port: 0 },
      log: silentLog,
      ...parts,
    }),
  );
  const gateways = stack.use(new DisposableStack());
  const owned = stack.move();
  return {
    server,
    adapter,
    async attach(options): Promise<TestGateway> {
      const gateway = gateways.use(openTestGateway(adapter.linkAddress, options));
      await waitFor(() => gateway.linked);
      return gateway;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const hinted = { sizeHintBytes: 100 } as const;

describe("the Link", { timeout: 180_000 }, () => {
  test("tells the pod, an empty snapshot, gauges and pongs", async () => {
    await using bench = await openBench();
    const gateway = await bench.attach();
    assert.equal(gateway.pod?.incarnation, bench.adapter.incarnation);
    assert.equal(gateway.copies.size, 0);
    gateway.send({ case: "ping", value: { id: 5n } });
    await waitFor(() => gateway.pongs.includes(5n) && gateway.gauges !== undefined);
    assert.deepEqual(gateway.faults, []);
  });

  test("tells every gateway each change, and a late one the whole", async () => {
    await using bench = await openBench();
    const [one, two] = [await bench.attach({ gatewayId: "g1" }), await bench.attach({ gatewayId: "g2" })];
    one.load("a", hinted);
    await Promise.all([one.reaches("a", CopyState.READY), two.reaches("a", CopyState.READY)]);
    const three = await bench.attach({ gatewayId: "g3" });
    assert.equal(three.copies.get("a@r1")?.state, CopyState.READY);
    assert.equal(three.copies.get("a@r1")?.sizeBytes, 100n);
    assert.deepEqual(
      [one, two, three].flatMap(({ faults }) => faults),
      [],
    );
  });

  test("tells where the time of a load went before its end, to every gateway, of one that fails too", async () => {
    await using bench = await openBench();
    const [one, two] = [await bench.attach({ gatewayId: "g1" }), await bench.attach({ gatewayId: "g2" })];
    bench.server.failures.set("bad", "model");
    for (const name of ["a", "bad"]) one.load(name, hinted);
    await Promise.all([one, two].map((each) => each.reaches("a", CopyState.READY)));
    await Promise.all([one, two].map((each) => each.reaches("bad", CopyState.FAILED)));
    for (const { times } of [one, two]) {
      const told = new Map(times.map(([{ model }, state]) => [model, state]));
      assert.deepEqual(told, new Map(["a", "bad"].map((model) => [model, CopyState.LOADING])));
      for (const [{ pullMs, serverMs, measureMs }] of times) assert.ok(pullMs > 0 && serverMs > 0 && measureMs === 0);
    }
  });

  test("sends a large snapshot in parts", async () => {
    await using bench = await openBench({ capacityBytes: 10_000_000 });
    for (let n = 0; n < 12_001; n++) bench.server.held.set(`m${n}`, { serverName: `m${n}`, revision: "r1", sizeBytes: 1 });
    bench.server.kill();
    bench.server.revive();
    for (let n = 0; n < 12_001; n++) bench.server.held.set(`m${n}`, { serverName: `m${n}`, revision: "r1", sizeBytes: 1 });
    await waitFor(() => bench.adapter.holding.gauges(0).ready === 12_001);
    const gateway = await bench.attach();
    assert.equal(gateway.copies.size, 12_001);
    assert.equal(gateway.parts, 3);
    assert.deepEqual(gateway.faults, []);
  });

  test("unloads only after every gateway's ack", async () => {
    await using bench = await openBench({ capacityBytes: 100 });
    const [one, slow] = [await bench.attach({ gatewayId: "g1" }), await bench.attach({ gatewayId: "g2", acks: false })];
    one.load("a", hinted);
    await one.reaches("a", CopyState.READY);
    one.load("b", hinted);
    await waitFor(() => slow.withdrawals.length === 1 && one.withdrawals.length === 1);
    one.send({ case: "ping", value: { id: 1n } });
    await waitFor(() => one.pongs.length > 0);
    assert.ok(!bench.server.calls.includes("unload a"));
    slow.send({ case: "withdrawAck", value: { sequence: 999n } });
    slow.send({ case: "withdrawAck", value: { sequence: slow.withdrawals[0] ?? 0n } });
    await one.reaches("b", CopyState.READY);
    assert.deepEqual(bench.server.calls, ["load a", "unload a", "load b"]);
  });

  test("waits for no gateway that left", async () => {
    await using bench = await openBench({ capacityBytes: 100, withdrawTimeoutMs: 60_000 });
    const [one, slow] = [await bench.attach({ gatewayId: "g1" }), await bench.attach({ gatewayId: "g2", acks: false })];
    one.load("a", hinted);
    await one.reaches("a", CopyState.READY);
    one.load("b", hinted);
    await waitFor(() => slow.withdrawals.length === 1);
    slow[Symbol.dispose]();
    await one.reaches("b", CopyState.READY);
  });

  test("lets a gateway go that says nothing for long, and none that pings", async () => {
    await using bench = await openBench();
    const [one, mute] = [await bench.attach({ gatewayId: "g1" }), await bench.attach({ gatewayId: "g2", pings: false })];
    await waitFor(() => mute.ended, { timeoutMs: 60_000 });
    assert.deepEqual([one.ended, bench.adapter.state().gateways], [false, 1]);
  });

  test("a gateway that comes back replaces its old stream", async () => {
    await using bench = await openBench();
    const old = await bench.attach({ gatewayId: "g1" });
    const young = await bench.attach({ gatewayId: "g1" });
    await waitFor(() => old.ended);
    young.load("a", hinted);
    await young.reaches("a", CopyState.READY);
    assert.equal(old.copies.size, 0);
  });

  test("refuses what is invalid, and tells what is refused", async () => {
    await using bench = await openBench();
    const gateway = await bench.attach();
    const long = "x".repeat(100_000);
    gateway.load("../etc/passwd");
    gateway.load(long);
    gateway.load("a", { slot: 16 });
    gateway.load("a", { revision: "r/1" });
    gateway.load("a", { storageUri: "nowhere" });
    gateway.load("a", { loadClass: LoadClass.UNSPECIFIED });
    gateway.load("a", { loadClass: 77 as LoadClass });
    gateway.send({ case: "load", value: {} });
    await waitFor(() => gateway.refused.length === 8);
    assert.ok(gateway.refused.every(({ why, reason }) => why === LoadRefused_Why.INVALID && reason !== ""));
    assert.ok(gateway.refused.every(({ model }) => model.length <= 300));
    gateway.load("big", { sizeHintBytes: 1_001 });
    gateway.load("late", { waitMs: 0, sizeHintBytes: 1 });
    await waitFor(() => gateway.refused.length === 10);
    assert.deepEqual(
      gateway.refused.slice(8).map(({ model, why }) => [model, why]),
      [
        ["big", LoadRefused_Why.NO_ROOM],
        ["late", LoadRefused_Why.DEADLINE],
      ],
    );
    gateway.send({ case: "cancelLoad", value: { model: "..", revision: "" } });
    gateway.send({
      case: "usage",
      value: { entries: [{ model: long, revision: "r", requests: Number.NaN, idleMs: 2 ** 32 - 1 }] },
    });
    gateway.send({ case: "verify", value: { id: 3n, model: "..", revision: "r" } });
    gateway.send({ case: "withdrawAck", value: { sequence: 2n ** 64n - 1n } });
    await waitFor(() => gateway.verified.get(3n) === false);
    assert.equal(gateway.ended, false);
  });

  test("ends a stream that does not begin with Hello, says it twice, or names itself strangely", async () => {
    await using bench = await openBench();
    const strange = openTestGateway(bench.adapter.linkAddress, { gatewayId: "no/name" });
    await waitFor(() => strange.ended);
    const twice = await bench.attach();
    twice.send({ case: "hello", value: { gatewayId: "g1" } });
    await waitFor(() => twice.ended);
  });

  test("puts right a copy that the model server has forgotten", async () => {
    await using bench = await openBench();
    const gateway = await bench.attach();
    gateway.load("a", hinted);
    await gateway.reaches("a", CopyState.READY);
    gateway.send({ case: "verify", value: { id: 1n, model: "a", revision: "r1" } });
    await waitFor(() => gateway.verified.get(1n) === true);
    bench.server.held.delete("a");
    gateway.send({ case: "verify", value: { id: 2n, model: "a", revision: "r1" } });
    await waitFor(() => gateway.verified.get(2n) === false);
    assert.equal(gateway.copies.size, 0);
    gateway.load("a", hinted);
    await gateway.reaches("a", CopyState.READY);
  });

  test("tells whose fault a failed load is, and loads again when asked again", async () => {
    await using bench = await openBench();
    const gateway = await bench.attach();
    for (const [failure, kind] of [
      ["model", FailureKind.MODEL],
      ["storage", FailureKind.STORAGE],
      ["capacity", FailureKind.CAPACITY],
      ["pod", FailureKind.POD],
    ] as const) {
      bench.server.failures.set("a", failure);
      gateway.load("a", hinted);
      const failed = await waitFor(() => [...gateway.copies.values()].find(({ failure }) => failure?.kind === kind));
      assert.match(failed.failure?.reason ?? "", /scripted/);
    }
    bench.server.failures.clear();
    gateway.load("a", hinted);
    await gateway.reaches("a", CopyState.READY);
    assert.equal(bench.server.calls.filter((call) => call === "unload a").length, 1, "only the pod's own fault leaves doubts");
  });

  test("a model server that dies in a load fails that load, and serves the next one", async () => {
    await using bench = await openBench();
    const gateway = await bench.attach();
    gateway.load("a", hinted);
    await gateway.reaches("a", CopyState.READY);
    bench.server.poisons.add("bad");
    gateway.load("bad", hinted);
    const failed = await gateway.reaches("bad", CopyState.FAILED);
    assert.equal(failed.failure?.kind, FailureKind.SERVER_DIED);
    await waitFor(() => !gateway.copies.has("a@r1"));
    gateway.load("b", hinted);
    await gateway.reaches("b", CopyState.QUEUED);
    bench.server.revive();
    await gateway.reaches("b", CopyState.READY);
    assert.deepEqual(gateway.faults, []);
  });

  test("a load that hangs ends at its deadline, and what it may have left is unloaded", async () => {
    await using bench = await openBench({}, { loadTimeoutMs: 50 });
    const gateway = await bench.attach();
    bench.server.heldBack.add("a");
    gateway.load("a", hinted);
    const failed = await gateway.reaches("a", CopyState.FAILED);
    assert.equal(failed.failure?.kind, FailureKind.POD);
    assert.deepEqual(bench.server.calls, ["load a", "unload a"]);
  });

  test("takes a queued load back, but not one that started", async () => {
    await using bench = await openBench({ loadConcurrency: 1 });
    const gateway = await bench.attach();
    bench.server.heldBack.add("a");
    gateway.load("a", hinted);
    gateway.load("b", hinted);
    await gateway.reaches("b", CopyState.QUEUED);
    for (const model of ["a", "b"]) gateway.send({ case: "cancelLoad", value: { model, revision: "r1" } });
    await waitFor(() => !gateway.copies.has("b@r1"));
    bench.server.heldBack.clear();
    await gateway.reaches("a", CopyState.READY);
  });

  test("refuses what waits when it stops, and ends with loads hanging", async () => {
    await using bench = await openBench({ loadConcurrency: 1 });
    const gateway = await bench.attach();
    bench.server.heldBack.add("a");
    gateway.load("a", hinted);
    gateway.load("b", hinted);
    await gateway.reaches("b", CopyState.QUEUED);
    const startMs = performance.now();
    await bench.adapter[Symbol.asyncDispose]();
    assert.ok(performance.now() - startMs < 30_000);
    await waitFor(() => gateway.ended);
    assert.deepEqual(
      gateway.refused.map(({ model, why }) => [model, why]),
      [["b", LoadRefused_Why.STOPPING]],
    );
  });

  test("a gateway that does not read is told the end of the story only, without a gap", async () => {
    await using bench = await openBench({ capacityBytes: 2_000, withdrawTimeoutMs: 1 });
    const fast = await bench.attach({ gatewayId: "g1" });
    const slow = await bench.attach({ gatewayId: "g2" });
    slow.pause();
    // Long names fill the stream's window sooner.
    for (let n = 0; n < 600; n++) fast.load(`${"m".repeat(200)}${n}`, hinted);
    const { holding } = bench.adapter;
    await waitFor(() => holding.gauges(0).loads === 600 && fast.copies.size === 20, { timeoutMs: 60_000 });
    slow.resume();
    const known = (gateway: TestGateway): string => [...gateway.copies.keys()].sort().join();
    await waitFor(() => slow.copies.size === 20 && known(slow) === known(fast));
    assert.deepEqual(slow.faults, []);
    assert.ok(slow.deltas < fast.deltas / 2, `${slow.deltas} of ${fast.deltas} deltas were told`);
  });

  test("a pod that is emptied serves on, tells each gateway what is in use, and goes when that is dropped", async () => {
    await using bench = await openBench();
    const gateway = await bench.attach();
    for (const model of ["a", "b"]) {
      gateway.load(model, hinted);
      await gateway.reaches(model, CopyState.READY);
    }
    gateway.send({ case: "usage", value: { entries: [{ model: "a", revision: "r1", requests: 1, idleMs: 0 }] } });
    gateway.send({ case: "ping", value: { id: 9n } });
    await waitFor(() => gateway.pongs.includes(9n));
    const drained = bench.adapter.drain(120_000);
    await waitFor(() => gateway.draining.length === 2 && gateway.gauges?.draining === true);
    assert.deepEqual(gateway.draining, ["a", "b"], "the most recently used first");
    const late = await bench.attach({ gatewayId: "g2" });
    await waitFor(() => late.draining.length === 2);
    gateway.load("c", hinted);
    await waitFor(() => gateway.refused.some(({ why }) => why === LoadRefused_Why.STOPPING));
    assert.deepEqual([...bench.server.held.keys()].sort(), ["a", "b"]);
    for (const model of ["a", "b"]) gateway.send({ case: "drop", value: { model, revision: "r1" } });
    await drained;
    assert.equal(bench.server.held.size, 0);
    assert.deepEqual([...gateway.faults, ...late.faults], []);
  });

  test("a pod that nobody can help lets go when its patience ends, and at once without gateways", async () => {
    await using bench = await openBench();
    const gateway = await bench.attach();
    gateway.load("a", hinted);
    await gateway.reaches("a", CopyState.READY);
    await bench.adapter.drain(50);
    assert.equal(bench.server.held.size, 0);
    assert.ok(gateway.withdrawals.length > 0, "routes are withdrawn before");
    await using alone = await openBench();
    alone.server.held.set("x", { serverName: "x", revision: "r1", sizeBytes: 10 });
    await alone.adapter.drain(600_000);
  });

  test("a copy that is dropped leaves, and a queued one leaves the queue", async () => {
    await using bench = await openBench({ loadConcurrency: 1 });
    const gateway = await bench.attach();
    gateway.load("a", hinted);
    await gateway.reaches("a", CopyState.READY);
    bench.server.heldBack.add("b");
    gateway.load("b", hinted);
    await gateway.reaches("b", CopyState.LOADING);
    gateway.load("c", hinted);
    await gateway.reaches("c", CopyState.QUEUED);
    for (const model of ["a", "c", "unknown"]) gateway.send({ case: "drop", value: { model, revision: "r1" } });
    await waitFor(() => !gateway.copies.has("a@r1") && !gateway.copies.has("c@r1"));
    bench.server.heldBack.clear();
    await gateway.reaches("b", CopyState.READY);
  });

  test("tells how many loads were under way in a model server that died", async () => {
    await using bench = await openBench({ loadConcurrency: 3 });
    const gateway = await bench.attach();
    for (const model of ["a", "b", "c"]) {
      bench.server.heldBack.add(model);
      gateway.load(model, hinted);
    }
    await waitFor(() => bench.server.loading.size === 3);
    bench.server.kill();
    for (const model of ["a", "b", "c"]) {
      const { failure } = await gateway.reaches(model, CopyState.FAILED);
      assert.deepEqual([failure?.kind, failure?.suspects], [FailureKind.SERVER_DIED, 3]);
    }
  });

  test("finds what the model server holds or lacks behind its back", async () => {
    await using bench = await openBench({}, { compareMs: 20 });
    const gateway = await bench.attach();
    gateway.load("a", hinted);
    await gateway.reaches("a", CopyState.READY);
    bench.server.held.delete("a");
    await waitFor(() => gateway.copies.size === 0);
    bench.server.held.set("b", { serverName: "b", revision: "r1", sizeBytes: 70 });
    bench.server.held.set("not ours!", { serverName: "not ours!", revision: "r1", sizeBytes: 70 });
    assert.equal((await gateway.reaches("b", CopyState.READY)).sizeBytes, 70n);
    assert.equal(gateway.copies.size, 1);
  });

  test("a storm of loads and evictions from two gateways leaves all of one mind", async () => {
    await using bench = await openBench({ capacityBytes: 2_000 });
    const gateways = [await bench.attach({ gatewayId: "g1" }), await bench.attach({ gatewayId: "g2" })];
    for (let n = 0; n < 400; n++) gateways[n % 2]?.load(`m${(n * 7) % 100}`, { ...hinted, waitMs: 20_000 });
    const settled = (): boolean => {
      const { queued, loading, loads, usedBytes } = bench.adapter.holding.gauges(0);
      return queued === 0 && loading === 0 && loads >= 100 && usedBytes <= 2_000;
    };
    await waitFor(() => settled() && gateways.every((gateway) => gateway.copies.size === 20), { timeoutMs: 60_000 });
    const held = [...bench.server.held.keys()].map((name) => `${name}@r1`).sort();
    for (const gateway of gateways) {
      assert.deepEqual([...gateway.copies.keys()].sort(), held);
      assert.deepEqual(gateway.faults, []);
      assert.deepEqual(gateway.refused, []);
    }
  });
});
