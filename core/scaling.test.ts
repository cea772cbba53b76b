import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type CopyLimits, type Demand, decideCopies, noScaling, type ScalingPolicy, type ScalingState } from "./scaling.ts";

const policy: ScalingPolicy = {
  ratePerCopy: 100,
  concurrencyPerCopy: 10,
  secondCopyAfterMs: 300_000,
  downAfterMs: 120_000,
  downPart: 0.7,
};
const limits: CopyLimits = { minCopies: 0, maxCopies: 10 };
const demand = (requestsPerSecond: number, concurrency = 0): Demand => ({ requestsPerSecond, concurrency, inUseSinceMs: 0 });
const idle: Demand = { requestsPerSecond: 0, concurrency: 0, inUseSinceMs: undefined };

/** Decides once a second. */
function run(steps: readonly Demand[], from: ScalingState = noScaling, startMs = 0): number[] {
  let state = from;
  return steps.map((step, second) => {
    state = decideCopies(step, state, limits, policy, startMs + second * 1_000).state;
    return state.copies;
  });
}

test("as many as the rate, the concurrency or the settings ask for", () => {
  const table: [string, Demand, CopyLimits, number, string][] = [
    ["not used", idle, limits, 0, "idle"],
    ["hardly used", demand(0.1), limits, 1, "rate"],
    ["at its limit", demand(100), limits, 1, "rate"],
    ["over its limit", demand(101), limits, 2, "rate"],
    ["slow requests", demand(5, 45), limits, 5, "concurrency"],
    ["more than there are pods", demand(1e6), { ...limits, maxCopies: 3 }, 3, "rate"],
    ["kept without use", idle, { ...limits, minCopies: 2 }, 2, "settings"],
    ["kept, but there is one pod only", idle, { minCopies: 2, maxCopies: 1 }, 1, "settings"],
    ["one at most", demand(1_000), { ...limits, maxCopies: 1 }, 1, "rate"],
  ];
  for (const [what, asked, bounds, copies, why] of table) {
    const wanted = decideCopies(asked, noScaling, bounds, policy, 0);
    assert.deepEqual([wanted.state.copies, wanted.why], [copies, why], what);
  }
});

test("a model in continuous use gets its second copy, however rarely it is asked for", () => {
  assert.equal(decideCopies(demand(0.2), noScaling, limits, policy, 299_999).state.copies, 1);
  const wanted = decideCopies(demand(0.2), noScaling, limits, policy, 300_000);
  assert.deepEqual([wanted.state.copies, wanted.why, wanted.forDemand], [2, "availability", 1]);
});

test("more copies come with the first second of more demand", () => {
  assert.deepEqual(run([demand(50), demand(450), demand(450)]), [1, 5, 5]);
});

test("fewer come only after the demand was low for two minutes, and then as many as its highest point asked for", () => {
  const busy = run([demand(450)], noScaling).at(-1);
  assert.equal(busy, 5);
  const from: ScalingState = { copies: 5, lowSinceMs: undefined, lowPeak: 0 };
  const calm = Array.from({ length: 121 }, (_, second) => demand(second === 60 ? 150 : 50));
  const seen = run(calm, from);
  assert.equal(seen[119], 5);
  assert.equal(seen[120], 3);
});

test("a demand that swings around a threshold does not make copies come and go", () => {
  const from: ScalingState = { copies: 2, lowSinceMs: undefined, lowPeak: 0 };
  const swinging = Array.from({ length: 600 }, (_, second) => demand(second % 10 < 5 ? 90 : 110));
  assert.deepEqual(new Set(run(swinging, from)), new Set([2]));
});

test("a constant demand leads to a constant number, and more demand never to fewer", () => {
  const amounts = fc.tuple(fc.double({ min: 0, max: 2_000, noNaN: true }), fc.double({ min: 0, max: 200, noNaN: true }));
  fc.assert(
    fc.property(amounts, fc.nat(12), fc.boolean(), ([rate, concurrency], copies, used) => {
      const asked = used ? demand(rate, concurrency) : idle;
      let state: ScalingState = { copies, lowSinceMs: undefined, lowPeak: 0 };
      const seen: number[] = [];
      for (let nowMs = 400_000; nowMs < 1_400_000; nowMs += 10_000) {
        state = decideCopies(asked, state, limits, policy, nowMs).state;
        seen.push(state.copies);
      }
      assert.equal(new Set(seen.slice(20)).size, 1, "settled");
      assert.ok(seen.every((count) => count >= limits.minCopies && count <= limits.maxCopies));
      const more = decideCopies({ ...asked, requestsPerSecond: rate + 50 }, noScaling, limits, policy, 400_000).state.copies;
      assert.ok(more >= decideCopies(asked, noScaling, limits, policy, 400_000).state.copies);
    }),
  );
});
