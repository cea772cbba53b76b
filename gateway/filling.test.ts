import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { createCopies } from "./copies.ts";
import { createDecisions } from "./decisions.ts";
import { createDrops } from "./drops.ts";
import { createFilling } from "./filling.ts";
import { type Copy, createFleet, type PodGauges } from "./fleet.ts";
import { createPlacements } from "./placements.ts";
import { createSuspects } from "./suspects.ts";
import { gaugesOf, modelOf, podInfo } from "./testing.ts";

const capacityBytes = 100_000;

function openBench(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const clock = createManualClock();
  const sent: string[] = [];
  const home = { is: true };
  const models = new Map(Array.from({ length: 40 }, (_, at) => [`m${at}`, modelOf(`m${at}`)]));
  const fleet = createFleet(
    {
      onCopies(podId, changes) {
        copies.onCopies(podId, changes);
        filling.onCopies(changes);
      },
      onPod: (podId) => copies.onPod(podId),
    },
    clock,
  );
  const shared = { fleet, clock, findModel: (name: string) => models.get(name), isHome: () => home.is };
  const copies = createCopies({
    ...shared,
    placements: createPlacements(fleet, clock),
    suspects: createSuspects(clock),
    decisions: createDecisions(clock),
    log: silentLog,
    sendLoad: (podId, model, _, { loadClass }) => sent.push(`${podId} ${model} ${loadClass}`),
    cancelLoad: (podId, model) => sent.push(`cancel ${podId} ${model}`),
    drops: createDrops({ fleet, clock, sendDrop: () => undefined }),
  });
  const flying = new Set<string>();
  const filling = createFilling({ ...shared, copies, isFlying: (model) => flying.has(model) });
  t.after(() => copies[Symbol.dispose]());
  return { clock, sent, home, models, fleet, filling, flying };
}

const copy = (model: string, state: Copy["state"]): Copy => ({ model, revision: "r1", slot: 0, state, sizeBytes: 1_000 });
const gauges = (usedBytes: number, queued = 0): PodGauges => gaugesOf({ usedBytes, queued });

test("what a pod held that is gone is loaded by the next one, the latest used first, two at a time", (t) => {
  const { clock, sent, fleet, filling } = openBench(t);
  fleet.attach(
    podInfo("a", { capacityBytes }),
    Array.from({ length: 10 }, (_, at) => copy(`m${at}`, "ready")),
  );
  // m9 is never asked for.
  for (let at = 0; at < 9; at++) {
    filling.onUsed([`m${at}`]);
    clock.advance(1_000);
  }
  fleet.detach("a");
  filling.tick();
  assert.equal(sent.length, 0, "there is no pod");
  fleet.attach(podInfo("b", { capacityBytes }), []);
  filling.tick();
  assert.deepEqual(sent, ["b m8 proactive", "b m7 proactive"]);
  filling.tick();
  assert.equal(sent.length, 2);
  const loaded = new Set<string>();
  while (loaded.size < sent.length) {
    const model = sent[loaded.size]?.split(" ")[1] ?? "";
    loaded.add(model);
    fleet.change("b", [copy(model, "loading")]);
    fleet.change("b", [copy(model, "ready")]);
  }
  assert.deepEqual([...loaded], ["m8", "m7", "m6", "m5", "m4", "m3", "m2", "m1", "m0"]);
});

test("that a model was used may be heard of after its pod is gone", (t) => {
  const { clock, sent, fleet, filling } = openBench(t);
  fleet.attach(podInfo("a", { capacityBytes }), [copy("m0", "ready"), copy("m1", "ready"), copy("m2", "ready")]);
  fleet.attach(podInfo("b", { capacityBytes }), [copy("m1", "ready")]);
  fleet.detach("a");
  clock.advance(2_000);
  filling.tick();
  assert.deepEqual(sent, []);
  filling.onUsed(["m0", "m1"]);
  filling.tick();
  // The other pod has the second one, and nobody used the third.
  assert.deepEqual(sent, ["b m0 proactive"]);
  clock.advance(20_000);
  filling.tick();
  filling.onUsed(["m2"]);
  filling.tick();
  assert.deepEqual(sent, ["b m0 proactive"], "so late it is news of something else");
});

test("no pod is filled beyond its reserve, or where loads wait; what is evicted is loaded again once there is room", (t) => {
  const { sent, fleet, filling } = openBench(t);
  fleet.attach(podInfo("a", { capacityBytes }), [copy("m0", "ready"), copy("m1", "ready")]);
  filling.onUsed(["m0", "m1"]);
  fleet.setGauges("a", gauges(capacityBytes * 0.9));
  fleet.change("a", [{ ...copy("m0", "ready"), state: "gone" }]);
  filling.tick();
  fleet.setGauges("a", gauges(capacityBytes * 0.5, 1));
  filling.tick();
  assert.deepEqual(sent, []);
  fleet.setGauges("a", gauges(capacityBytes * 0.5));
  filling.tick();
  assert.deepEqual(sent, ["a m0 proactive"]);
});

test("nothing is loaded ahead that requests wait for, has another copy, was forgotten, or has its home elsewhere", (t) => {
  const { sent, home, models, fleet, filling, flying } = openBench(t);
  const held = ["m0", "m1", "m2", "m3"];
  fleet.attach(
    podInfo("a", { capacityBytes }),
    held.map((model) => copy(model, "ready")),
  );
  fleet.attach(podInfo("b", { capacityBytes }), [copy("m1", "ready")]);
  filling.onUsed(held);
  fleet.change(
    "a",
    held.map((model) => ({ ...copy(model, "ready"), state: "gone" as const })),
  );
  fleet.change("b", [copy("m0", "queued")]);
  models.delete("m2");
  home.is = false;
  filling.tick();
  home.is = true;
  filling.tick();
  assert.deepEqual(sent, []);
  fleet.change("a", [{ ...copy("m3", "ready") }]);
  fleet.change("a", [{ ...copy("m3", "ready"), state: "gone" }]);
  flying.add("m3");
  filling.tick();
  assert.deepEqual(sent, []);
});

test("a load that fails is not tried again for it", (t) => {
  const { sent, fleet, filling } = openBench(t);
  fleet.attach(podInfo("a", { capacityBytes }), [copy("m0", "ready")]);
  filling.onUsed(["m0"]);
  fleet.change("a", [{ ...copy("m0", "ready"), state: "gone" }]);
  filling.tick();
  fleet.change("a", [{ ...copy("m0", "failed"), failure: { kind: "model", reason: "broken" } }]);
  filling.tick();
  t.mock.timers.tick(600_000);
  filling.tick();
  assert.deepEqual(sent, ["a m0 proactive"]);
});
