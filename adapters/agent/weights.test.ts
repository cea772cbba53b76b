// What copies weigh: predicted, measured, and corrected when it was wrong.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createBench, loads, refusals, states } from "../testing/bench.ts";

describe("weights", () => {
  test("a load for which there was no memory is thought to take twice as much, and copies leave for it the next time", () => {
    const bench = createBench();
    bench.make("a");
    bench.nowMs += 1;
    bench.ask("b");
    bench.step({ kind: "load-failed", key: "b@r1", failure: "capacity", reason: "out of memory" });
    assert.equal(bench.holding.view("b@r1")?.failure?.kind, "capacity");
    const asked = bench.ask("b");
    assert.equal(states(asked)["a"], undefined);
    assert.deepEqual(
      asked.flatMap((effect) => (effect.kind === "load" ? [effect.reservedBytes] : [])),
      [200],
    );
    bench.step({ kind: "load-failed", key: "b@r1", failure: "capacity", reason: "out of memory" });
    // Now the whole pod would be too small.
    assert.deepEqual(refusals(bench.ask("b")), ["g1 b no-room"]);
    assert.equal(bench.state("a"), "ready");
    bench.nowMs += 3_600_001;
    assert.deepEqual(loads(bench.ask("b")), ["b"]);
  });

  test("a load that had the model server killed for memory may take all that was thought to be free, and is refused then", () => {
    const bench = createBench({ capacityBytes: 1_000 });
    bench.ask("a");
    bench.step({ kind: "server-lost" });
    bench.step({ kind: "load-failed", key: "a@r1", failure: "capacity", reason: "killed", suspects: 1 });
    const failure = bench.holding.view("a@r1")?.failure;
    assert.deepEqual([failure?.kind, failure?.suspects], ["capacity", undefined]);
    bench.step({ kind: "server-up", held: [] });
    assert.deepEqual(refusals(bench.ask("a")), ["g1 a no-room"]);
    assert.deepEqual(loads(bench.ask("other")), ["other"]);
  });

  test("of several that were loading when it was killed each may take a part of that", () => {
    const bench = createBench({ capacityBytes: 1_000, loadConcurrency: 2 });
    bench.ask("a");
    bench.ask("b");
    bench.step({ kind: "server-lost" });
    for (const key of ["a@r1", "b@r1"]) {
      bench.step({ kind: "load-failed", key, failure: "capacity", reason: "killed", suspects: 2 });
    }
    bench.step({ kind: "server-up", held: [] });
    const reserved = ["a", "b"].flatMap((model) => bench.ask(model)).flatMap((e) => (e.kind === "load" ? [e.reservedBytes] : []));
    // 800 were free: half of them for each; both do not fit beside each other any more.
    assert.deepEqual(reserved, [501]);
  });

  test("a model of which nothing is known is thought to take what the model server says, until its like was measured", () => {
    const bench = createBench({ capacityBytes: 100_000_000 });
    bench.step({ kind: "server-lost" });
    bench.step({ kind: "server-up", held: [], limits: { defaultSizeBytes: 7_000_000 } });
    const reserved = (model: string, hint?: number): readonly number[] => {
      bench.ask(model, { hint });
      const effects = bench.step({ kind: "probed", key: `${model}@r1`, artefactBytes: 1_000_000 });
      bench.step({ kind: "loaded", key: `${model}@r1`, sizeBytes: 2_000_000, measured: true });
      return effects.flatMap((effect) => (effect.kind === "load" ? [effect.reservedBytes] : []));
    };
    assert.deepEqual(
      ["a", "b", "c", "d", "e"].flatMap((model) => reserved(model)),
      [7e6, 7e6, 7e6, 7e6, 2e6],
    );
    bench.ask("hinted", { hint: 3_000_000 });
    assert.equal(bench.holding.view("hinted@r1")?.sizeBytes, 3_000_000);
  });

  test("copies whose size was guessed are thought to take what is measured of others", () => {
    const bench = createBench({ capacityBytes: 100_000_000 });
    const load = (model: string, sizeBytes: number, measured: boolean): void => {
      bench.ask(model, { hint: undefined });
      bench.step({ kind: "probed", key: `${model}@r1`, artefactBytes: 1_000_000 });
      bench.step({ kind: "loaded", key: `${model}@r1`, sizeBytes, measured });
    };
    load("guessed", 4_000_000, false);
    for (const model of ["a", "b", "c"]) load(model, 1_100_000, true);
    assert.equal(bench.holding.view("guessed@r1")?.sizeBytes, 4_000_000);
    load("d", 1_100_000, true);
    assert.equal(bench.holding.view("guessed@r1")?.sizeBytes, 1_100_000);
    assert.equal(bench.holding.gauges(0).usedBytes, 5_500_000);
  });

  test("what the model server takes with a load counts before the next one starts", () => {
    const bench = createBench({ capacityBytes: 1_000_000, memoryLimitBytes: 1_000 });
    bench.step({ kind: "memory-seen", bytes: 300 });
    bench.ask("a", { hint: 500 });
    bench.ask("b", { hint: 90 });
    // It took half as much again as it was thought to.
    const effects = bench.step({ kind: "loaded", key: "a@r1", sizeBytes: 500, measured: false, memoryBytes: 1_050 });
    assert.deepEqual(loads(effects), []);
    assert.equal(states(effects)["a"], "leaving");
  });

  test("a model server beyond its memory limit loads nothing before what leaves for that is unloaded", () => {
    const bench = createBench({ capacityBytes: 1_000_000, memoryLimitBytes: 1_000, loadConcurrency: 2 });
    bench.step({ kind: "memory-seen", bytes: 200 });
    for (const model of ["a", "b", "c"]) {
      bench.make(model);
      bench.nowMs += 1;
    }
    assert.deepEqual(states(bench.step({ kind: "memory-seen", bytes: 1_100 })), { a: "leaving" });
    assert.deepEqual(loads(bench.ask("d")), []);
    bench.step({ kind: "tick" });
    assert.deepEqual(loads(bench.step({ kind: "unloaded", key: "a@r1" })), ["d"]);
  });

  test("what can never be had here, with nothing on its way, is refused at once", () => {
    const bench = createBench({ capacityBytes: 1_000_000, memoryLimitBytes: 1_000 });
    bench.step({ kind: "memory-seen", bytes: 300 });
    assert.deepEqual(refusals(bench.ask("big", { hint: 900 })), ["g1 big no-room"]);
    assert.deepEqual(loads(bench.ask("small", { hint: 100 })), ["small"]);
  });
});
