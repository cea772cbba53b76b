import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import type { Copies } from "./copies.ts";
import { createDecisions } from "./decisions.ts";
import { createDrains, type Drains } from "./drains.ts";
import { createDrops } from "./drops.ts";
import { type Copy, createFleet, type Fleet } from "./fleet.ts";
import { podInfo } from "./testing.ts";

interface Bench extends Disposable {
  readonly fleet: Fleet;
  readonly drains: Drains;
  /** "want x", "unwant x", "drop a x", in order. */
  readonly seen: string[];
  readonly homeOf: Set<string>;
  /** Models that no other pod takes. */
  readonly nowhere: Set<string>;
}

function openBench(t: TestContext): Bench {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const seen: string[] = [];
  const homeOf = new Set<string>();
  const nowhere = new Set<string>();
  const fleet = createFleet({
    onCopies: (podId, changes) => drains.onCopies(podId, changes),
    onPod: (podId) => drains.onPod(podId),
  });
  const copies: Copies = {
    want: (model) => void seen.push(`want ${model}`),
    unwant: (model) => void seen.push(`unwant ${model}`),
    state: (model) => ({ ready: 0, underWay: nowhere.has(model) ? 0 : 1 }),
    asked: () => [],
    failureOf: () => undefined,
    shrink: () => undefined,
    onCopies: () => undefined,
    onPod: () => undefined,
    onRefused: () => undefined,
    onModel: () => undefined,
    onMembers: () => undefined,
    wants: 0,
    [Symbol.dispose]: () => undefined,
  };
  const drains = createDrains({
    fleet,
    copies,
    decisions: createDecisions(systemClock),
    isHome: (model) => homeOf.has(model) || homeOf.size === 0,
    drops: createDrops({ fleet, clock: systemClock, sendDrop: (podId, model) => void seen.push(`drop ${podId} ${model}`) }),
  });
  return { fleet, drains, seen, homeOf, nowhere, [Symbol.dispose]: () => drains[Symbol.dispose]() };
}

function copy(model: string, state: Copy["state"] = "ready"): Copy {
  return { model, revision: "r1", slot: 0, state, sizeBytes: 1_000 };
}

function drain({ fleet, drains }: Bench, podId: string, copies: readonly Copy[]): void {
  fleet.setDraining(podId);
  drains.onDraining(podId, copies);
}

test("a copy leaves when it is ready elsewhere, a moment later, and not before", (t) => {
  using bench = openBench(t);
  const { fleet, seen, drains } = bench;
  fleet.attach(podInfo("a"), [copy("x")]);
  fleet.attach(podInfo("b"), []);
  drain(bench, "a", [copy("x")]);
  assert.deepEqual(seen, ["want x"]);
  fleet.change("b", [copy("x", "loading")]);
  fleet.change("b", [copy("x")]);
  assert.deepEqual(seen, ["want x", "unwant x"]);
  t.mock.timers.tick(500);
  assert.deepEqual(seen.slice(2), ["drop a x"]);
  fleet.change("a", [{ ...copy("x"), state: "gone" }]);
  assert.equal(drains.pending, 0);
});

test("what another pod holds leaves at once; what a pod holds that is emptied too does not", (t) => {
  using bench = openBench(t);
  const { fleet, seen } = bench;
  fleet.attach(podInfo("a"), [copy("x"), copy("y")]);
  fleet.attach(podInfo("b"), [copy("x")]);
  fleet.attach(podInfo("c"), [copy("y")]);
  fleet.setDraining("c");
  drain(bench, "a", [copy("x"), copy("y")]);
  t.mock.timers.tick(500);
  assert.deepEqual(seen, ["want y", "drop a x"]);
});

test("a place that is lost before the copy left is looked for again", (t) => {
  using bench = openBench(t);
  const { fleet, seen } = bench;
  fleet.attach(podInfo("a"), [copy("x")]);
  fleet.attach(podInfo("b"), []);
  drain(bench, "a", [copy("x")]);
  fleet.change("b", [copy("x")]);
  fleet.detach("b");
  t.mock.timers.tick(500);
  assert.deepEqual(seen, ["want x", "unwant x", "want x"]);
});

test("a bounded number moves at a time, in the order of the list", (t) => {
  using bench = openBench(t);
  const { fleet, seen, drains } = bench;
  const all = Array.from({ length: 200 }, (_, n) => copy(`m${n}`));
  fleet.attach(podInfo("a"), all);
  fleet.attach(podInfo("b"), []);
  drain(bench, "a", all);
  assert.deepEqual(
    seen,
    all.slice(0, 64).map(({ model }) => `want ${model}`),
  );
  assert.equal(drains.pending, 200);
  fleet.change("b", all.slice(0, 10));
  assert.deepEqual(
    seen.filter((line) => line.startsWith("want")).slice(64),
    all.slice(64, 74).map(({ model }) => `want ${model}`),
  );
});

test("each gateway sees to its own models, and takes over those of one that left", (t) => {
  using bench = openBench(t);
  const { fleet, seen, drains, homeOf } = bench;
  homeOf.add("x");
  fleet.attach(podInfo("a"), [copy("x"), copy("y")]);
  drain(bench, "a", [copy("x"), copy("y")]);
  assert.deepEqual(seen, ["want x"]);
  homeOf.delete("x");
  homeOf.add("y");
  drains.onMembers();
  assert.deepEqual(seen, ["want x", "unwant x", "want y"]);
});

test("nothing is wanted any more for a pod that has gone", (t) => {
  using bench = openBench(t);
  const { fleet, seen, drains } = bench;
  fleet.attach(podInfo("a"), [copy("x")]);
  drain(bench, "a", [copy("x")]);
  fleet.detach("a");
  assert.deepEqual(seen, ["want x", "unwant x"]);
  assert.equal(drains.pending, 0);
});

test("copies that no other pod takes do not keep those behind them", (t) => {
  using bench = openBench(t);
  const { fleet, seen, nowhere } = bench;
  const all = Array.from({ length: 70 }, (_, n) => copy(`m${n}`));
  for (const { model } of all.slice(0, 64)) nowhere.add(model);
  fleet.attach(podInfo("a"), all);
  fleet.attach(podInfo("b"), []);
  drain(bench, "a", all);
  assert.deepEqual(
    seen,
    all.map(({ model }) => `want ${model}`),
  );
});

test("a drop that was lost with a Link is sent again when the pod lists the copy again", (t) => {
  using bench = openBench(t);
  const { fleet, seen } = bench;
  fleet.attach(podInfo("a"), [copy("x")]);
  fleet.attach(podInfo("b"), [copy("x")]);
  drain(bench, "a", [copy("x")]);
  t.mock.timers.tick(500);
  assert.deepEqual(seen, ["drop a x"]);
  fleet.setUnreachable("a");
  fleet.attach(podInfo("a"), [copy("x")]);
  drain(bench, "a", [copy("x")]);
  t.mock.timers.tick(500);
  assert.deepEqual(seen, ["drop a x", "drop a x"]);
});
