import assert from "node:assert/strict";
import { test } from "node:test";
import { array, assert as assertProperty, constantFrom, double, integer, property } from "fast-check";
import { type Average, averageOn, noAverage, sampleVariance, sureOf } from "./averages.ts";

const kept = 0.4;

function afterSeconds(seconds: number, requests: (second: number) => number, weight: number): Average {
  let average = noAverage;
  for (let second = 0; second < seconds; second++) {
    const sum = requests(second);
    average = averageOn(average, sum, sampleVariance(sum, sum, weight), 1, kept);
  }
  return average;
}

test("a steady rate that is told whole is sure", () => {
  assert.ok(Math.abs(sureOf(afterSeconds(20, () => 300, 1)) - 300) < 0.1);
});

test("one sample says nothing, whatever it stands for", () => {
  for (const weight of [2, 16, 128, 2_048, 10_000]) {
    assert.equal(sureOf(afterSeconds(1, () => weight, weight)), 0);
    assert.equal(sureOf(afterSeconds(3, (second) => (second === 0 ? weight : 0), weight)), 0);
  }
});

test("many samples say nearly all", () => {
  const sure = sureOf(afterSeconds(10, () => 100 * 16, 16));
  assert.ok(sure > 0.8 * 1_600 && sure <= 1_600, String(sure));
});

test("what is sure is seldom more than there is", () => {
  assertProperty(
    property(
      integer({ min: 1, max: 2_000 }),
      constantFrom(1, 4, 32, 256),
      array(double({ min: 0, max: 1, noNaN: true }), { minLength: 200, maxLength: 200 }),
      (rate, weight, draws) => {
        // Each second's samples: binomial, near enough as a sum of uniform draws around the mean.
        const mean = rate / weight;
        const counts = draws.map((draw) => Math.max(0, Math.floor(mean + (draw - 0.5) * Math.sqrt(12 * mean) + 0.5)));
        let average = noAverage;
        let over = 0;
        for (const count of counts) {
          const sum = count * weight;
          average = averageOn(average, sum, sampleVariance(sum, sum, weight), 1, kept);
          if (sureOf(average) > rate * 1.05 + 1) over += 1;
        }
        assert.ok(over <= counts.length * 0.1, `${over} of ${counts.length} at ${rate}/s in samples of ${weight}`);
      },
    ),
    { numRuns: 200, seed: 7 },
  );
});

test("nothing is sure of nothing", () => {
  assert.equal(sampleVariance(0, 0, 100), 0);
  assert.equal(sureOf(noAverage), 0);
});
