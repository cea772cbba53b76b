import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { bonusMs, type Heat, noHeat, rateOf, warmUp } from "./heat.ts";

/** Used every so often, with so many requests each time. */
function used(everyMs: number, requests: number, forMs: number): Heat {
  let heat = noHeat;
  for (let nowMs = 0; nowMs <= forMs; nowMs += everyMs) heat = warmUp(heat, requests, nowMs);
  return heat;
}

test("the rate of what is used regularly is what it is, and falls when it is not used any more", () => {
  const heat = used(500, 10, 300_000);
  const rate = rateOf(heat, 300_000);
  assert.ok(rate > 19 && rate < 21, `${rate}`);
  assert.ok(rateOf(heat, 330_000) < rate / 2);
  assert.equal(rateOf(heat, 500_000), 0);
});

test("one sampled entry that stands for many requests makes nothing hot", () => {
  const heat = warmUp(noHeat, 1_000, 0);
  assert.equal(rateOf(heat, 0), 0);
  assert.equal(bonusMs(heat), 0);
});

test("the more regularly it is used the longer it stays, up to a minute", () => {
  const bonuses = [60_000, 10_000, 2_000, 500, 50].map((everyMs) => bonusMs(used(everyMs, 1, 300_000)));
  assert.deepEqual(
    bonuses,
    bonuses.toSorted((a, b) => a - b),
  );
  assert.ok((bonuses[0] ?? 0) < 5_000 && bonuses.at(-1) === 60_000, bonuses.join(", "));
});

test("nothing lasts, and nothing is without bound", () => {
  const uses = fc.array(fc.tuple(fc.nat(10_000), fc.double({ min: 0, max: 1e6, noNaN: true })), { maxLength: 50 });
  fc.assert(
    fc.property(uses, (steps) => {
      let heat = noHeat;
      let nowMs = 0;
      for (const [afterMs, requests] of steps) {
        nowMs += afterMs;
        heat = warmUp(heat, requests, nowMs);
        assert.ok(bonusMs(heat) >= 0 && bonusMs(heat) <= 60_000);
        assert.ok(rateOf(heat, nowMs) >= 0);
      }
      assert.equal(rateOf(heat, nowMs + 3_600_000), 0);
    }),
  );
});
