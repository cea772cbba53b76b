import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createHistogram } from "./samples.ts";

const latencyMs = fc.oneof(
  fc.double({ min: 0.001, max: 10_800_000, noNaN: true }),
  fc.double({ min: 0.001, max: 50, noNaN: true }),
  fc.constantFrom(0.001, 1, 10, 10_800_000),
);
const sample = fc.record({ ms: latencyMs, weight: fc.integer({ min: 1, max: 5 }) });
const share = fc.oneof(fc.constantFrom(0, 0.5, 0.9, 0.99, 1), fc.double({ min: 0, max: 1, noNaN: true }));

function exactQuantile(samples: readonly { ms: number; weight: number }[], q: number): number {
  const sorted = samples.flatMap(({ ms, weight }) => Array.from({ length: weight }, () => ms)).sort((a, b) => a - b);
  return sorted[Math.max(Math.ceil(q * sorted.length) - 1, 0)]!;
}

test("every quantile is within 4 % of the exact one", () => {
  fc.assert(
    fc.property(fc.array(sample, { minLength: 1, maxLength: 60 }), share, (samples, q) => {
      const histogram = createHistogram();
      for (const { ms, weight } of samples) histogram.record(ms, weight);
      const exact = exactQuantile(samples, q);
      const found = histogram.quantile(q)!;
      assert.ok(Math.abs(found - exact) <= exact * 0.04 * (1 + 1e-9), `${found} for ${exact}`);
      assert.equal(
        histogram.count,
        samples.reduce((sum, { weight }) => sum + weight, 0),
      );
    }),
    { numRuns: 500 },
  );
});

test("merging is the same as recording everything in one", () => {
  fc.assert(
    fc.property(fc.array(sample), fc.array(sample), share, (a, b, q) => {
      const [left, right, both] = [createHistogram(), createHistogram(), createHistogram()];
      for (const { ms, weight } of a) left.record(ms, weight);
      for (const { ms, weight } of b) right.record(ms, weight);
      for (const { ms, weight } of [...a, ...b]) both.record(ms, weight);
      left.merge(right);
      assert.equal(left.count, both.count);
      assert.equal(left.quantile(q), both.quantile(q));
    }),
  );
});

test("quantiles never fall as the share grows, and stay within the extremes, for any numbers", () => {
  fc.assert(
    fc.property(fc.array(fc.double(), { minLength: 1 }), fc.tuple(share, share), (values, [p, q]) => {
      const histogram = createHistogram();
      for (const value of values) histogram.record(value);
      const kept = values.filter((value) => !Number.isNaN(value)).map((value) => Math.min(Math.max(value, 0), Number.MAX_VALUE));
      assert.equal(histogram.count, kept.length);
      const [low, high] = [histogram.quantile(Math.min(p, q)), histogram.quantile(Math.max(p, q))];
      if (kept.length === 0) assert.deepEqual([low, high], [undefined, undefined]);
      else assert.ok(Math.min(...kept) <= low! && low! <= high! && high! <= Math.max(...kept));
    }),
  );
});

test("reset forgets everything; what has no weight is left out; merging oneself doubles", () => {
  const histogram = createHistogram();
  for (const weight of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) histogram.record(5, weight);
  assert.equal(histogram.count, 0);
  histogram.record(5, 0.5);
  histogram.merge(histogram);
  assert.equal(histogram.count, 1);
  assert.equal(histogram.quantile(0.5), 5);
  histogram.reset();
  assert.equal(histogram.quantile(0.5), undefined);
  histogram.merge(createHistogram());
  assert.equal(histogram.quantile(1), undefined);
  assert.throws(() => histogram.quantile(1.1), RangeError);
  assert.throws(() => histogram.quantile(Number.NaN), RangeError);
});
