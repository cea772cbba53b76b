import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createDeaths, type Deaths } from "./deaths.ts";

const minute = 60_000;

/** Requests of these models are under way when the pod's server dies. */
function die(deaths: Deaths, podId: string, models: readonly string[], nowMs: number): void {
  const [before, after] = [models.slice(0, models.length / 2), models.slice(models.length / 2)];
  for (const model of before) deaths.returned(model, [podId], nowMs - 50);
  deaths.died(podId, nowMs);
  for (const model of after) deaths.returned(model, [podId], nowMs + 50);
}

test("a model that was under way at two deaths one after the other is kept off, with their pods", () => {
  const deaths = createDeaths({ maxSuspects: 100, modelOf: (key) => key });
  die(deaths, "a", ["m"], 1_000);
  assert.equal(deaths.check("m", 1_100), undefined);
  die(deaths, "b", ["m"], 3_000);
  assert.deepEqual(deaths.check("m", 3_100)?.podIds, ["a", "b"]);
});

test("what is answered all the time is not blamed, though it is under way at every death, and hides nobody", () => {
  const deaths = createDeaths({ maxSuspects: 100, modelOf: (key) => key });
  const hot = Array.from({ length: 20 }, (_, at) => `hot-${at}`);
  for (const model of hot) deaths.answered(model, 200, 0);
  for (const [at, podId] of ["a", "b", "c", "d", "e"].entries()) {
    die(deaths, podId, [...hot, "poison"], 1_000 + at * 2_000);
    if (at >= 2) assert.ok(deaths.check("poison", 2_000 + at * 2_000) !== undefined, podId);
  }
  for (const model of hot) assert.equal(deaths.check(model, 10_000), undefined, model);
});

test("servers that are killed under the traffic of one busy model leave it alone", () => {
  const deaths = createDeaths({ maxSuspects: 100, modelOf: (key) => key });
  for (let at = 0; at < 50; at++) {
    deaths.answered("m", 1_000, at * 1_000);
    die(deaths, `p${at % 3}`, ["m"], at * 1_000 + 500);
    assert.equal(deaths.check("m", at * 1_000 + 600), undefined, `death ${at}`);
  }
});

test("a pod that dies twice within a second, and is told dead before or after, has died twice", () => {
  for (const isTold of ["before", "after"]) {
    const deaths = createDeaths({ maxSuspects: 100, modelOf: (key) => key });
    for (const atMs of [1_000, 1_500]) {
      if (isTold === "before") deaths.died("a", atMs);
      deaths.returned("m", ["a"], atMs + 10);
      if (isTold === "after") deaths.died("a", atMs + 20);
    }
    assert.ok(deaths.check("m", 1_600) !== undefined, isTold);
  }
});

test("what was answered between two deaths, and is told late, is let on again at once", () => {
  const deaths = createDeaths({ maxSuspects: 100, modelOf: (key) => key });
  die(deaths, "a", ["m"], 1_000);
  die(deaths, "b", ["m"], 2_000);
  assert.ok(deaths.check("m", 2_100) !== undefined);
  deaths.answered("m", 40, 2_500);
  assert.deepEqual(deaths.released(3_000), ["m"]);
  assert.equal(deaths.check("m", 3_000), undefined);
});

test("what comes back long before or after a death, or from another pod, has nothing to do with it", () => {
  const deaths = createDeaths({ maxSuspects: 100, modelOf: (key) => key });
  for (let at = 0; at < 10; at++) {
    const nowMs = at * 10_000 + 10_000;
    deaths.returned("early", ["p"], nowMs - 2_000);
    deaths.died("p", nowMs);
    deaths.returned("elsewhere", ["q"], nowMs);
    deaths.returned("late", ["p"], nowMs + 2_000);
    for (const model of ["early", "elsewhere", "late"]) assert.equal(deaths.check(model, nowMs + 2_000), undefined, model);
    deaths.released(nowMs + 4_000);
  }
});

test("deaths that lie far apart are nobody's in particular", () => {
  const deaths = createDeaths({ maxSuspects: 100, modelOf: (key) => key });
  for (let at = 0; at < 10; at++) {
    die(deaths, "p", ["m"], at * 3 * minute + 1_000);
    assert.equal(deaths.check("m", at * 3 * minute + 1_100), undefined);
  }
});

test("it is let on again after a while, told once, and the next time kept off for twice as long", () => {
  const deaths = createDeaths({ maxSuspects: 100, modelOf: (key) => key });
  die(deaths, "a", ["m"], 1_000);
  die(deaths, "b", ["m"], 2_000);
  assert.deepEqual(deaths.released(4 * minute), []);
  assert.deepEqual(deaths.released(6 * minute), ["m"]);
  assert.deepEqual(deaths.released(6 * minute), []);
  die(deaths, "a", ["m"], 6 * minute);
  die(deaths, "b", ["m"], 6 * minute + 1_000);
  assert.ok(deaths.check("m", 15 * minute) !== undefined);
});

test("memory is bounded, and whatever happens nothing is kept off without two deaths", () => {
  const step = fc.tuple(fc.constantFrom("returned", "died", "answered"), fc.nat(30), fc.nat(4), fc.nat(700));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const deaths = createDeaths({ maxSuspects: 8, modelOf: (key) => key });
      let nowMs = 0;
      let died = 0;
      for (const [what, model, pod, afterMs] of steps) {
        nowMs += afterMs;
        if (what === "returned") deaths.returned(`m${model}`, [`p${pod}`], nowMs);
        else if (what === "answered") deaths.answered(`m${model}`, 3, nowMs);
        else {
          deaths.died(`p${pod}`, nowMs);
          died += 1;
        }
        const kept = Array.from({ length: 31 }, (_, at) => deaths.check(`m${at}`, nowMs)).filter((one) => one !== undefined);
        assert.ok(kept.length <= 8);
        if (died < 2) assert.equal(kept.length, 0);
      }
    }),
  );
});
