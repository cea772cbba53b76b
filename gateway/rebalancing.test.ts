import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { parseModel } from "#core/model.ts";
import { createManualClock } from "#platform/clock.ts";
import { createDecisions } from "./decisions.ts";
import { createDrops } from "./drops.ts";
import { type Copy, createFleet, type PodGauges } from "./fleet.ts";
import { createPlacements } from "./placements.ts";
import { createRebalancing } from "./rebalancing.ts";
import { createSuspects } from "./suspects.ts";
import { gaugesOf, modelOf, podInfo } from "./testing.ts";

function openBench(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const clock = createManualClock();
  const sent: string[] = [];
  const others = new Set<string>();
  const models = new Map(["hot", "warm", "idle"].map((name) => [name, modelOf(name)]));
  const rates = new Map([
    ["hot", 60],
    ["warm", 30],
    ["idle", 0.1],
  ]);
  const fleet = createFleet(
    { onCopies: (podId, changes) => rebalancing.onCopies(podId, changes), onPod: (podId) => rebalancing.onPod(podId) },
    clock,
  );
  const decisions = createDecisions(clock);
  const loadedMs = new Map<string, number>();
  const drops = createDrops({ fleet, clock, sendDrop: (podId, model) => sent.push(`drop ${model} on ${podId}`) });
  const rebalancing = createRebalancing({
    fleet,
    placements: createPlacements(fleet, clock),
    decisions,
    journal: { since: (model, _, podId) => loadedMs.get(`${model} on ${podId}`) },
    suspects: createSuspects(clock),
    clock,
    findModel: (name) => models.get(name),
    isHome: (name) => !others.has(name) && !(others.has("turns") && name.includes("@")),
    rateOf: (name) => rates.get(name),
    avoided: () => new Map(),
    sendLoad: (podId, model, _, { loadClass }) => sent.push(`load ${model} on ${podId} as ${loadClass}`),
    cancelLoad: (podId, model) => sent.push(`cancel ${model} on ${podId}`),
    drops,
  });
  t.after(() => rebalancing[Symbol.dispose]());
  const copies = (state: Copy["state"], ...names: string[]) => names.map((name) => copy(name, state));
  fleet.attach(podInfo("a", { capacityBytes: 100_000 }), copies("ready", "hot", "warm", "idle"));
  fleet.attach(podInfo("b", { capacityBytes: 100_000 }), []);
  fleet.setGauges("a", gauges(90));
  fleet.setGauges("b", gauges(0));
  /** Seconds, one by one. */
  const pass = (seconds: number): void => {
    for (let at = 0; at < seconds; at++) {
      clock.advance(1_000);
      rebalancing.tick();
    }
  };
  const change = (podId: string, name: string, state: Copy["state"]): void => fleet.change(podId, [copy(name, state)]);
  const take = (): string[] => sent.splice(0);
  return {
    clock,
    loadedMs,
    fleet,
    rebalancing,
    decisions,
    drops,
    models,
    rates,
    others,
    pass,
    change,
    take,
    timers: t.mock.timers,
  };
}

const copy = (model: string, state: Copy["state"]): Copy => ({ model, revision: "r1", slot: 0, state, sizeBytes: 1_000 });
const gauges = (requestsPerSecond: number, draining = false): PodGauges =>
  gaugesOf({ usedBytes: 3_000, draining, requestsPerSecond });

test("a copy in use moves from a busy pod to an idle one: loaded there, and dropped here a moment after it is ready", (t) => {
  const { pass, change, take, decisions, timers } = openBench(t);
  pass(14);
  assert.deepEqual(take(), [], "not before it has been so for a while");
  pass(60);
  assert.deepEqual(take(), ["load warm on b as migrate"], "the one that brings neither over the mean");
  change("b", "warm", "queued");
  change("b", "warm", "loading");
  timers.tick(10_000);
  assert.deepEqual(take(), []);
  change("b", "warm", "ready");
  assert.deepEqual(take(), []);
  timers.tick(500);
  assert.deepEqual(take(), ["drop warm on a"]);
  assert.equal(decisions.of("warm")[0]?.kind, "moved");
  assert.match(decisions.of("warm")[0]?.reason ?? "", /a does 90.0 requests\/s, b 0.0/);
});

test("what moved does not move again soon, whatever the gauges say", (t) => {
  const { pass, change, take, fleet, timers } = openBench(t);
  pass(75);
  take();
  change("b", "warm", "ready");
  timers.tick(500);
  fleet.change("a", [{ ...copy("warm", "leaving"), state: "gone" }]);
  assert.deepEqual(take(), ["drop warm on a"]);
  fleet.setGauges("a", gauges(0));
  fleet.setGauges("b", gauges(90));
  pass(500);
  assert.deepEqual(take(), []);
  pass(240);
  assert.deepEqual(take(), ["load warm on a as migrate"]);
});

test("nothing is dropped when the other copy is lost, refused, late, or on a pod that is about to go", (t) => {
  for (const spoil of [
    ({ change }: ReturnType<typeof openBench>) => change("b", "warm", "failed"),
    ({ rebalancing }: ReturnType<typeof openBench>) => rebalancing.onRefused("b", "warm", "r1", "queue-full", "it is full"),
    ({ fleet }: ReturnType<typeof openBench>) => fleet.setUnreachable("b"),
    ({ fleet }: ReturnType<typeof openBench>) => fleet.detach("b"),
    ({ change, fleet }: ReturnType<typeof openBench>) => {
      change("b", "warm", "ready");
      fleet.setDraining("b");
    },
    ({ change }: ReturnType<typeof openBench>) => {
      change("b", "warm", "ready");
      change("b", "warm", "leaving");
    },
  ]) {
    const bench = openBench(t);
    bench.pass(75);
    assert.deepEqual(bench.take(), ["load warm on b as migrate"]);
    spoil(bench);
    assert.equal(bench.rebalancing.moving, 0);
    bench.timers.tick(200_000);
    assert.deepEqual(bench.take(), []);
    t.mock.timers.reset();
  }
  const { pass, take, timers, rebalancing } = openBench(t);
  pass(75);
  take();
  timers.tick(120_000);
  assert.deepEqual(take(), ["cancel warm on b"]);
  assert.equal(rebalancing.moving, 0);
});

test("a copy is not dropped when its other pod was asked to drop it too, and has not said so yet", (t) => {
  const { pass, change, take, drops, timers } = openBench(t);
  pass(75);
  take();
  change("b", "warm", "ready");
  drops.send("b", "warm", "r1");
  timers.tick(500);
  assert.deepEqual(take(), ["drop warm on b"]);
});

test("gateways take turns, and each moves only what it is the home of", (t) => {
  const { pass, take, others } = openBench(t);
  others.add("turns");
  pass(200);
  assert.deepEqual(take(), []);
  others.delete("turns");
  others.add("warm");
  pass(200);
  assert.deepEqual(take(), []);
  others.delete("warm");
  pass(60);
  assert.deepEqual(take(), ["load warm on b as migrate"]);
});

test("a model whose revisions change, or share its requests, stays where it is", (t) => {
  const { pass, take, models } = openBench(t);
  const revisions = ["r1", "r2"].map((id, slot) => ({ id, slot, format: "onnx", storageUri: "file:///m.onnx" }));
  const parsed = parseModel({ name: "warm", revisions, active: "r1", target: "r2" });
  models.set("warm", parsed.kind === "ok" ? parsed.model : assert.fail(parsed.reason));
  pass(200);
  assert.deepEqual(take(), []);
});

test("a copy that was loaded just now stays for a minute", (t) => {
  const { pass, take, clock, loadedMs } = openBench(t);
  loadedMs.set("warm on a", clock.now() + 200_000);
  pass(255);
  assert.deepEqual(take(), []);
  pass(120);
  assert.deepEqual(take(), ["load warm on b as migrate"]);
});
