import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { createRandom } from "#cli/library/random.ts";
import { createZipf } from "./zipf.ts";

const names = Array.from({ length: 1_000 }, (_, at) => `model-${at}`);

describe("createZipf", () => {
  it("draws ranks as often as Zipf's law says", () => {
    const zipf = createZipf(names, { exponent: 1, seed: 1 });
    const random = createRandom(5);
    const counts = new Map<string, number>();
    for (let draws = 0; draws < 100_000; draws++) {
      const name = zipf.draw(random);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const harmonic = names.reduce((sum, _, at) => sum + 1 / (at + 1), 0);
    for (const rank of [1, 2, 5, 20, 100]) {
      const expected = 100_000 / (rank * harmonic);
      const found = counts.get(zipf.ranked[rank - 1]!) ?? 0;
      assert.ok(Math.abs(found - expected) < 5 * Math.sqrt(expected), `rank ${rank}: ${found}, not ${expected}`);
    }
    assert.ok(counts.size > 950);
  });

  it("ranks by seed alone and loses no name", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string(), { minLength: 1 }), fc.integer(), (names, seed) => {
        const { ranked } = createZipf(names, { exponent: 1, seed });
        assert.deepEqual(createZipf(names, { exponent: 0.5, seed }).ranked, ranked);
        assert.deepEqual(new Set(ranked), new Set(names));
      }),
    );
    assert.notDeepEqual(createZipf(names, { exponent: 1, seed: 1 }).ranked, createZipf(names, { exponent: 1, seed: 2 }).ranked);
  });

  it("draws a name for every number from 0 to 1", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.double({ min: 0, max: 3, noNaN: true }),
        (point, exponent) => {
          const zipf = createZipf(names, { exponent, seed: 3 });
          assert.ok(names.includes(zipf.draw(() => point)));
        },
      ),
    );
    const equal = createZipf(["a", "b"], { exponent: 0, seed: 1 });
    assert.deepEqual(
      [equal.draw(() => 0), equal.draw(() => 0.499), equal.draw(() => 0.5)],
      [equal.ranked[0], equal.ranked[0], equal.ranked[1]],
    );
  });

  it("refuses no names and a negative exponent", () => {
    assert.throws(() => createZipf([], { exponent: 1, seed: 1 }), RangeError);
    assert.throws(() => createZipf(names, { exponent: -1, seed: 1 }), RangeError);
    assert.throws(() => createZipf(names, { exponent: Number.NaN, seed: 1 }), RangeError);
  });
});
