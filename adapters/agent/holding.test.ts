// What the holding decides, case by case. What copies weigh is in weights.test.ts.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { admitted, createBench, kinds, loads, refusals, states } from "../testing/bench.ts";
import type { HoldingEffect } from "./events.ts";

describe("holding", () => {
  test("starts a load at once when there is room, with its bytes reserved", () => {
    const bench = createBench();
    const effects = bench.ask("a");
    assert.deepEqual(loads(effects), ["a"]);
    assert.deepEqual(states(effects), { a: "loading" });
    assert.equal(bench.holding.gauges(0).reservedBytes, 100);
    assert.deepEqual(states(bench.loaded("a", 120)), { a: "ready" });
    const { reservedBytes, usedBytes } = bench.holding.gauges(0);
    assert.deepEqual([reservedBytes, usedBytes], [0, 120]);
  });

  test("never promises the same bytes twice", () => {
    const bench = createBench({ loadConcurrency: 4 });
    assert.deepEqual(loads(bench.ask("a", { hint: 200 })), ["a"]);
    assert.deepEqual(loads(bench.ask("b", { hint: 150 })), []);
    assert.equal(bench.state("b"), "queued");
    // Once loaded it can leave for the one that waits.
    assert.deepEqual(states(bench.loaded("a", 200)), { a: "leaving" });
  });

  test("nothing overtakes a large load into the room that is being made for it", () => {
    const bench = createBench({ loadConcurrency: 2 });
    bench.ask("a", { hint: 200 });
    assert.deepEqual(loads(bench.ask("large", { hint: 250 })), []);
    assert.deepEqual(loads(bench.ask("small", { hint: 100 })), []);
    bench.loaded("a", 200);
    bench.nowMs += 2_000;
    bench.step({ kind: "tick" });
    assert.deepEqual(loads(bench.step({ kind: "unloaded", key: "a@r1" })), ["large"]);
    assert.equal(bench.state("small"), "queued");
  });

  test("a tenant that may not have more here lets go of its own copies, though others are older and there is room", () => {
    const bench = createBench({ capacityBytes: 1_000 });
    for (const model of ["old", "mine-1", "mine-2"]) {
      bench.nowMs += 1;
      bench.make(model);
    }
    bench.step({
      kind: "owned",
      owners: new Map([
        ["mine-1", "t"],
        ["mine-2", "t"],
      ]),
    });
    bench.nowMs += 1;
    assert.deepEqual(states(bench.ask("mine-3", { tenant: "t", tenantBytes: 250 })), {
      "mine-1": "leaving",
      "mine-3": "loading",
    });
    assert.deepEqual([bench.state("old"), bench.state("mine-2")], ["ready", "ready"]);
  });

  test("a load that is more than its tenant may have here is refused, and nothing leaves for it", () => {
    const bench = createBench({ capacityBytes: 1_000 });
    bench.make("old");
    bench.make("mine");
    bench.step({ kind: "owned", owners: new Map([["mine", "t"]]) });
    const effects = bench.ask("large", { hint: 200, tenant: "t", tenantBytes: 150 });
    assert.deepEqual(refusals(effects), ["g1 large over-quota"]);
    assert.deepEqual([bench.state("old"), bench.state("mine")], ["ready", "ready"]);
  });

  test("a tenant that has too much is trimmed, the least recently used first", () => {
    const bench = createBench({ capacityBytes: 1_000 });
    for (const model of ["mine-1", "mine-2", "other"]) {
      bench.nowMs += 1;
      bench.make(model);
    }
    bench.step({
      kind: "owned",
      owners: new Map([
        ["mine-1", "t"],
        ["mine-2", "t"],
      ]),
    });
    assert.deepEqual(states(bench.step({ kind: "trimmed", tenant: "t", bytes: 150 })), { "mine-1": "leaving" });
    assert.deepEqual(states(bench.step({ kind: "trimmed", tenant: "t", bytes: 150 })), {});
  });

  test("looks the artefact up when nothing tells its size", () => {
    const bench = createBench({ capacityBytes: 1_000_000 });
    assert.deepEqual(kinds(bench.ask("a", { hint: undefined })), ["probe", "publish"]);
    const effects = bench.step({ kind: "probed", key: "a@r1", artefactBytes: 1_000 });
    assert.deepEqual(effects.find((e) => e.kind === "load")?.reservedBytes, 4_000 + 131_072);
    bench.ask("b", { hint: undefined });
    const failed = bench.step({ kind: "probe-failed", key: "b@r1", failure: "model", reason: "no artefact" });
    assert.deepEqual(states(failed), { b: "failed" });
    assert.deepEqual(bench.holding.view("b@r1")?.failure, { kind: "model", reason: "no artefact" });
  });

  test("withdraws, waits for every gateway's ack, unloads, and only then loads", () => {
    const bench = createBench();
    bench.step({ kind: "gateway-attached", gatewayId: "g2" });
    for (const model of ["a", "b", "c"]) {
      bench.nowMs += 1;
      bench.make(model);
    }
    bench.step({ kind: "used", uses: [{ key: "a@r1", idleMs: 0, requests: 1 }] });
    bench.nowMs += 1;
    const asked = bench.ask("d");
    assert.deepEqual(states(asked), { b: "leaving", d: "queued" });
    const withdrawal = asked.find((e) => e.kind === "publish" && e.withdraw);
    assert.ok(withdrawal?.kind === "publish");
    const { sequence } = withdrawal;
    assert.deepEqual(kinds(bench.step({ kind: "withdraw-acked", gatewayId: "g1", sequence })), []);
    assert.deepEqual(kinds(bench.step({ kind: "withdraw-acked", gatewayId: "g1", sequence })), []);
    assert.deepEqual(bench.step({ kind: "withdraw-acked", gatewayId: "g2", sequence }), [
      { kind: "unload", key: "b@r1", serverName: "b" },
    ]);
    assert.equal(bench.holding.gauges(0).usedBytes, 300);
    const unloaded = bench.step({ kind: "unloaded", key: "b@r1" });
    assert.deepEqual(loads(unloaded), ["d"]);
    assert.deepEqual(states(unloaded), { b: "gone", d: "loading" });
  });

  test("waits for a gateway no longer than the timeout, nor for one that left", () => {
    for (const event of [{ kind: "tick" }, { kind: "gateway-detached", gatewayId: "g1" }] as const) {
      const bench = createBench({ capacityBytes: 100 });
      bench.make("a");
      bench.step({ kind: "gateway-attached", gatewayId: "g2" });
      bench.ask("b", { gatewayId: "g2" });
      const dueMs = bench.holding.nextDueMs();
      assert.equal(dueMs, bench.nowMs + 2_000);
      const sequence = 4;
      bench.step({ kind: "withdraw-acked", gatewayId: "g2", sequence });
      if (event.kind === "tick") bench.nowMs = dueMs;
      assert.deepEqual(kinds(bench.step(event)), ["unload"]);
    }
  });

  test("a gateway that attaches while a copy is leaving is told and waited for", () => {
    const bench = createBench({ capacityBytes: 100 });
    bench.make("a");
    const asked = bench.ask("b");
    const sequence = asked.find((e) => e.kind === "publish" && e.withdraw);
    assert.ok(sequence?.kind === "publish");
    const told = bench.step({ kind: "gateway-attached", gatewayId: "g2" });
    assert.deepEqual(
      told.map((e) => e.kind === "tell" && [e.gatewayId, e.withdrawals]),
      [["g2", [sequence.sequence]]],
    );
    assert.deepEqual(kinds(bench.step({ kind: "withdraw-acked", gatewayId: "g1", sequence: sequence.sequence })), []);
    assert.deepEqual(kinds(bench.step({ kind: "withdraw-acked", gatewayId: "g2", sequence: sequence.sequence })), ["unload"]);
  });

  test("a copy asked for while it leaves is loaded again behind its unload", () => {
    const bench = createBench({ capacityBytes: 100 });
    bench.make("a");
    bench.ask("b");
    const again = bench.ask("a");
    assert.deepEqual(states(again), { a: "leaving" });
    bench.nowMs += 2_000;
    assert.deepEqual(kinds(bench.step({ kind: "tick" })), ["unload"]);
    const unloaded = bench.step({ kind: "unloaded", key: "a@r1" });
    assert.deepEqual(states(unloaded), { a: "queued", b: "loading" });
    bench.step({ kind: "loaded", key: "b@r1", sizeBytes: 100, measured: true });
    assert.equal(bench.state("b"), "leaving");
  });

  test("takes nothing young for background work, but anything for a user", () => {
    const bench = createBench({ capacityBytes: 100, minAgeMs: 10_000 });
    bench.make("a");
    bench.ask("b", { loadClass: "scale-up", waitMs: 60_000 });
    assert.deepEqual([bench.state("a"), bench.state("b")], ["ready", "queued"]);
    bench.ask("b", { waitMs: 60_000 });
    assert.deepEqual([bench.state("a"), bench.state("b")], ["leaving", "queued"]);
  });

  test("background work that found only young copies goes on once they are old", () => {
    const bench = createBench({ capacityBytes: 100, minAgeMs: 1_000 });
    bench.make("a");
    bench.ask("b", { loadClass: "ensure", waitMs: 60_000 });
    for (let ticks = 0; bench.state("a") === "ready"; ticks++) {
      assert.ok(ticks < 20);
      bench.nowMs = bench.holding.nextDueMs() ?? Number.NaN;
      bench.step({ kind: "tick" });
    }
    assert.ok(bench.nowMs >= 2_000);
  });

  test("a user's load goes before background loads; asking again raises and extends", () => {
    const bench = createBench({ capacityBytes: 1_000 });
    bench.ask("busy");
    bench.ask("next");
    bench.ask("p1", { loadClass: "proactive", waitMs: 500 });
    bench.ask("p2", { loadClass: "proactive", waitMs: 900 });
    bench.ask("p3", { loadClass: "proactive", waitMs: 5_000 });
    bench.ask("p2", { gatewayId: "g1", waitMs: 5_000 });
    bench.nowMs += 600;
    assert.deepEqual(refusals(bench.step({ kind: "tick" })), ["g1 p1 deadline"]);
    bench.nowMs += 600;
    bench.loaded("busy");
    bench.loaded("next");
    assert.deepEqual([bench.state("p1"), bench.state("p2"), bench.state("p3")], [undefined, "loading", "queued"]);
  });

  test("a queued load leaves only when no gateway asks any longer; a started one goes on", () => {
    const bench = createBench();
    bench.step({ kind: "gateway-attached", gatewayId: "g2" });
    bench.step({ kind: "gateway-attached", gatewayId: "g3" });
    bench.ask("busy");
    for (const gatewayId of ["g1", "g2", "g3"]) bench.ask("a", { gatewayId });
    bench.step({ kind: "load-cancelled", gatewayId: "g1", key: "a@r1" });
    bench.step({ kind: "gateway-detached", gatewayId: "g2" });
    assert.equal(bench.state("a"), "queued");
    assert.deepEqual(states(bench.step({ kind: "load-cancelled", gatewayId: "g3", key: "a@r1" })), { a: "gone" });
    bench.step({ kind: "load-cancelled", gatewayId: "g1", key: "busy@r1" });
    assert.equal(bench.state("busy"), "loading");
  });

  test("refuses what can never fit, what is late, and what is too much", () => {
    const bench = createBench({ maxQueued: 1 });
    assert.deepEqual(refusals(bench.ask("big", { hint: 301 })), ["g1 big no-room"]);
    assert.deepEqual(refusals(bench.ask("late", { waitMs: 0 })), ["g1 late deadline"]);
    bench.ask("busy");
    bench.ask("next");
    bench.ask("background", { loadClass: "proactive" });
    assert.deepEqual(refusals(bench.ask("other", { loadClass: "proactive" })), ["g1 other queue-full"]);
    assert.deepEqual(refusals(bench.ask("urgent")), ["g1 background queue-full"]);
    assert.deepEqual(refusals(bench.ask("urgent2")), ["g1 urgent2 queue-full"]);
    bench.step({ kind: "probed", key: "nobody@r1", artefactBytes: 1 });
  });

  test("what measures more than was predicted is repaid, and predicted better the next time", () => {
    const bench = createBench();
    bench.make("a");
    bench.nowMs += 1;
    bench.make("b");
    bench.nowMs += 1;
    bench.ask("c");
    assert.deepEqual(states(bench.loaded("c", 150)), { c: "ready", a: "leaving" });
    assert.equal(bench.holding.gauges(0).usedBytes, 350);
    const tooBig = createBench();
    tooBig.ask("a");
    tooBig.loaded("a", 301);
    tooBig.nowMs += 2_000;
    tooBig.step({ kind: "tick" });
    tooBig.step({ kind: "unloaded", key: "a@r1" });
    assert.deepEqual(refusals(tooBig.ask("a")), ["g1 a no-room"]);
  });

  test("keeps headroom of small copies that are not in use, and gives up no large one for it", () => {
    const bench = createBench({ capacityBytes: 300, headroomBytes: 50, minAgeMs: 1_000 });
    bench.make("large", 200);
    bench.nowMs += 1;
    bench.make("small", 40);
    bench.nowMs += 1;
    bench.make("other", 40);
    assert.deepEqual([bench.state("large"), bench.state("small"), bench.state("other")], ["ready", "ready", "ready"]);
    bench.nowMs += 200;
    bench.step({ kind: "tick" });
    assert.deepEqual([bench.state("large"), bench.state("small"), bench.state("other")], ["ready", "leaving", "ready"]);
  });

  test("another revision in the same slot goes first", () => {
    const bench = createBench();
    bench.make("a");
    const asked = bench.ask("a", { revision: "r2" });
    assert.equal(bench.state("a"), "leaving");
    assert.deepEqual(loads(asked), []);
    bench.nowMs += 2_000;
    bench.step({ kind: "tick" });
    assert.deepEqual(loads(bench.step({ kind: "unloaded", key: "a@r1" })), ["a"]);
  });

  test("tells whoever asks for what is ready or under way, and keeps it recently used", () => {
    const bench = createBench();
    bench.make("a");
    bench.nowMs += 5_000;
    const asked = bench.ask("a");
    assert.deepEqual(kinds(asked), ["tell"]);
    assert.equal(bench.holding.gauges(bench.nowMs).oldestIdleMs, 0);
    bench.ask("b");
    assert.deepEqual(kinds(bench.ask("b")), ["tell"]);
  });

  test("remembers a failure until it is asked for again, and only so many", () => {
    const bench = createBench({ maxFailed: 2 });
    for (const model of ["a", "b", "c"]) {
      bench.ask(model);
      bench.step({ kind: "load-failed", key: `${model}@r1`, failure: "model", reason: `no ${model}` });
    }
    assert.deepEqual(
      ["a", "b", "c"].map((model) => bench.state(model)),
      [undefined, "failed", "failed"],
    );
    assert.deepEqual(states(bench.ask("b")), { b: "loading" });
    assert.equal(bench.holding.gauges(0).loadFailures, 3);
  });

  test("with the model server go all copies; what is queued waits for the next one", () => {
    const bench = createBench({ capacityBytes: 200 });
    bench.make("a");
    bench.nowMs += 1;
    bench.make("b");
    bench.ask("c");
    assert.deepEqual(states(bench.step({ kind: "server-lost" })), { a: "gone", b: "gone" });
    assert.deepEqual(loads(bench.ask("d")), []);
    assert.equal(bench.holding.gauges(0).usedBytes, 0);
    const up = bench.step({
      kind: "server-up",
      held: [{ model: "e", revision: "r1", slot: 0, serverName: "e", sizeBytes: 150 }],
    });
    assert.equal(bench.state("c"), "queued");
    assert.deepEqual(states(up), { e: "leaving" });
  });

  test("a model server that died and does not come back: what waits for it goes elsewhere, and what comes at once", () => {
    const bench = createBench({ capacityBytes: 200 });
    bench.make("a");
    const refused = (effects: readonly HoldingEffect[]): readonly string[] =>
      effects.flatMap((effect) => (effect.kind === "refuse" ? [effect.model] : []));
    bench.step({ kind: "server-lost" });
    bench.ask("b");
    const dueMs = bench.holding.nextDueMs();
    assert.equal(dueMs, bench.nowMs + 2_000);
    bench.nowMs += 1_999;
    assert.deepEqual(refused(bench.step({ kind: "tick" })), []);
    bench.nowMs += 1;
    assert.deepEqual(refused(bench.step({ kind: "tick" })), ["b"]);
    assert.equal(bench.holding.nextDueMs(), undefined);
    assert.deepEqual(refused(bench.ask("c")), ["c"]);
    bench.step({ kind: "server-up", held: [] });
    assert.deepEqual(loads(bench.ask("d")), ["d"]);
  });

  test("a model server that says nothing: what is queued, and what comes, goes elsewhere until it is up again", () => {
    const bench = createBench({ capacityBytes: 200 });
    bench.make("a");
    bench.nowMs += 1;
    bench.make("b");
    bench.ask("c");
    const refused = (effects: readonly HoldingEffect[]): readonly string[] =>
      effects.flatMap((effect) => (effect.kind === "refuse" ? [effect.model] : []));
    const lost = bench.step({ kind: "server-lost", silent: true });
    assert.deepEqual(states(lost), { a: "gone", b: "gone", c: "gone" });
    assert.deepEqual(refused(lost), ["c"]);
    assert.deepEqual(refused(bench.ask("d")), ["d"]);
    bench.step({ kind: "server-up", held: [] });
    assert.deepEqual(states(bench.ask("d")), { d: "loading" });
  });

  test("a copy that turned out missing is gone without an unload", () => {
    const bench = createBench();
    bench.make("a");
    assert.deepEqual(states(bench.step({ kind: "copy-missing", key: "a@r1" })), { a: "gone" });
    assert.equal(bench.holding.gauges(0).usedBytes, 0);
    assert.deepEqual(bench.step({ kind: "copy-missing", key: "a@r1" }), []);
  });

  test("an unload that fails is tried again after a pause, its bytes still used", () => {
    const bench = createBench({ capacityBytes: 100 });
    bench.make("a");
    bench.ask("b", { waitMs: 60_000 });
    bench.nowMs += 2_000;
    bench.step({ kind: "tick" });
    assert.deepEqual(kinds(bench.step({ kind: "unload-failed", key: "a@r1" })), []);
    assert.equal(bench.holding.gauges(0).usedBytes, 100);
    bench.nowMs = bench.holding.nextDueMs() ?? Number.NaN;
    assert.deepEqual(kinds(bench.step({ kind: "tick" })), ["unload"]);
  });
});

describe("loads that stand still", () => {
  const stall = (model: string, stalled = true) => ({ kind: "pull-stalled", key: `${model}@r1`, stalled }) as const;
  const pulled = (model: string) => ({ kind: "pulled", key: `${model}@r1` }) as const;

  test("hold up no others, and the model server still loads so many at a time and no more", () => {
    const bench = createBench({ capacityBytes: 1_000, loadConcurrency: 1 });
    assert.deepEqual(loads(bench.ask("hangs")), ["hangs"]);
    assert.deepEqual(loads(bench.ask("next")), []);
    assert.deepEqual(loads(bench.step(stall("hangs"))), ["next"]);
    assert.deepEqual(admitted(bench.step(pulled("next"))), ["next"]);
    bench.step(stall("hangs", false));
    assert.deepEqual(admitted(bench.step(pulled("hangs"))), [], "it has its artefact, and it is not its turn");
    assert.deepEqual(loads(bench.ask("third")), [], "two are under way");
    const effects = bench.loaded("next");
    assert.deepEqual(admitted(effects), ["hangs"]);
    assert.deepEqual(loads(effects), []);
    assert.deepEqual(loads(bench.loaded("hangs")), ["third"]);
  });

  test("wait for their turn at the model server behind what is more urgent", () => {
    const bench = createBench({ capacityBytes: 1_000, loadConcurrency: 1 });
    bench.ask("background", { loadClass: "proactive" });
    bench.step(stall("background"));
    bench.ask("user");
    bench.step(stall("user"));
    bench.ask("first");
    bench.step(pulled("first"));
    bench.step(pulled("background"));
    bench.step(pulled("user"));
    assert.deepEqual(admitted(bench.loaded("first")), ["user"]);
    assert.deepEqual(admitted(bench.loaded("user")), ["background"]);
  });

  test("are so many and no more", () => {
    const bench = createBench({ capacityBytes: 10_000, loadConcurrency: 1 });
    for (let n = 0; n < 40; n++) {
      bench.ask(`m${n}`);
      bench.step(stall(`m${n}`));
    }
    assert.equal(bench.holding.gauges(0).loading, 17);
    assert.equal(bench.state("m20"), "queued");
  });

  test("give no reason to wait for the room that they take", () => {
    const bench = createBench({ capacityBytes: 300, loadConcurrency: 1 });
    bench.ask("hangs", { hint: 200 });
    assert.deepEqual(refusals(bench.ask("large", { hint: 150 })), []);
    assert.deepEqual(refusals(bench.step(stall("hangs"))), ["g1 large no-room"]);
  });

  test("and so it is with what is looked up: another store is asked meanwhile", () => {
    const bench = createBench({ capacityBytes: 1_000, loadConcurrency: 1 });
    for (const model of ["a", "b"]) assert.deepEqual(kinds(bench.ask(model, { hint: undefined })).slice(0, 1), ["probe"]);
    assert.deepEqual(loads(bench.ask("healthy")), []);
    assert.equal(bench.holding.nextDueMs(), bench.nowMs + 1_000);
    bench.nowMs += 1_000;
    assert.deepEqual(loads(bench.step({ kind: "tick" })), ["healthy"]);
  });

  test("end with the model server, and their places are free again", () => {
    const bench = createBench({ capacityBytes: 1_000, loadConcurrency: 1 });
    for (const model of ["a", "b"]) {
      bench.ask(model);
      bench.step(stall(model));
    }
    bench.step({ kind: "server-lost" });
    for (const model of ["a", "b"])
      bench.step({ kind: "load-failed", key: `${model}@r1`, failure: "pod", reason: "the model server is lost" });
    bench.step({ kind: "server-up", held: [] });
    assert.deepEqual(loads(bench.ask("c")), ["c"]);
    assert.deepEqual(loads(bench.ask("d")), []);
  });
});
