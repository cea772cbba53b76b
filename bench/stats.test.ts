import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { median, medianRatio, orderOfRound, percentile, roundTo } from "./stats.ts";

const numbers = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 });

test("half of all values lie on each side of the median", () => {
  fc.assert(
    fc.property(numbers, (values) => {
      const middle = median(values);
      assert.ok(values.filter((value) => value <= middle).length * 2 >= values.length);
      assert.ok(values.filter((value) => value >= middle).length * 2 >= values.length);
    }),
  );
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test("a percentile is a value that was seen and covers its share", () => {
  fc.assert(
    fc.property(numbers, fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
      const found = percentile(values, share);
      assert.ok(values.includes(found) || found === 0);
      assert.ok(values.filter((value) => value <= found).length >= share * values.length);
    }),
  );
  assert.equal(percentile([5, 1, 2, 3, 4], 0.5), 3);
});

test("over all rounds every path stands at every place equally often", () => {
  const places = new Map<string, number>();
  for (let round = 0; round < 6; round++) {
    orderOfRound(["hit", "static", "direct"], round).forEach((path, at) => {
      places.set(`${path} ${at}`, (places.get(`${path} ${at}`) ?? 0) + 1);
    });
  }
  assert.equal(places.size, 9);
  for (const times of places.values()) assert.equal(times, 2);
});

test("a ratio is taken round by round", () => {
  assert.equal(medianRatio([2, 30, 4], [1, 10, 2]), 2);
  assert.equal(roundTo(1.23456, 2), 1.23);
});
