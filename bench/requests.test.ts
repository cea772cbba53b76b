import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { chooseEvenly } from "./requests.ts";

test("as many as asked for are chosen, in order, without repeats, over the whole length", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 600 }), (length, count) => {
      const items = Array.from({ length }, (_, at) => at);
      const chosen = chooseEvenly(items, count);
      assert.equal(chosen.length, Math.min(length, count));
      assert.deepEqual(
        chosen,
        [...new Set(chosen)].sort((a, b) => a - b),
      );
      assert.equal(chosen[0], 0);
      if (chosen.length > 1) assert.ok((chosen.at(-1) ?? 0) >= length - Math.ceil(length / count) - 1);
    }),
  );
});
