import assert from "node:assert/strict";
import { test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
import { createDrops } from "./drops.ts";
import { type CopyState, createFleet } from "./fleet.ts";
import { podInfo } from "./testing.ts";

const change = (state: CopyState) => ({ model: "m", revision: "r1", slot: 0, state, sizeBytes: 1 });

function openBench() {
  const clock = createManualClock();
  const sent: string[] = [];
  const fleet = createFleet({ onCopies: (podId, changes) => drops.onCopies(podId, changes), onPod: () => undefined });
  const drops = createDrops({ fleet, clock, sendDrop: (podId, model, revision) => sent.push(`${podId} ${model}@${revision}`) });
  return { clock, sent, fleet, drops };
}

test("a copy is asked to leave until its pod says that it does", () => {
  const { sent, drops } = openBench();
  drops.send("a", "m", "r1");
  assert.deepEqual(sent, ["a m@r1"]);
  assert.deepEqual([drops.isAsked("a", "m@r1"), drops.isAsked("b", "m@r1"), drops.isAsked("a", "m@r2")], [true, false, false]);
  drops.onCopies("b", [change("leaving")]);
  drops.onCopies("a", [change("ready")]);
  assert.equal(drops.isAsked("a", "m@r1"), true, "its size was told anew");
  drops.onCopies("a", [change("leaving")]);
  assert.equal(drops.isAsked("a", "m@r1"), false);
});

test("what a pod does not heed is forgotten, whether or not anything else is asked for", () => {
  const { clock, drops } = openBench();
  drops.send("a", "m", "r1");
  clock.advance(9_999);
  assert.equal(drops.isAsked("a", "m@r1"), true);
  drops.send("a", "m", "r1");
  clock.advance(1);
  assert.equal(drops.isAsked("a", "m@r1"), true, "asked again since");
  clock.advance(9_999);
  assert.equal(drops.isAsked("a", "m@r1"), false);
});

test("a copy is held where it is ready on a pod that can be reached and stays, and that was not asked to drop it", () => {
  const { fleet, drops } = openBench();
  assert.equal(drops.isHeld("a", "m@r1"), false, "no such pod");
  for (const podId of ["a", "b", "c", "d"]) fleet.attach(podInfo(podId), [change(podId === "d" ? "loading" : "ready")]);
  fleet.setUnreachable("b");
  fleet.setDraining("c");
  const held = (): readonly string[] => ["a", "b", "c", "d"].filter((podId) => drops.isHeld(podId, "m@r1"));
  assert.deepEqual(held(), ["a"]);
  assert.equal(drops.isHeld("a", "m@r2"), false);
  drops.send("a", "m", "r1");
  assert.deepEqual(held(), []);
});
