import assert from "node:assert/strict";
import { test } from "node:test";
import { array, boolean, assert as check, integer, property, tuple } from "fast-check";
import { countFillable, createLostModels, defaultFillingPolicy } from "./filling.ts";
import type { PodView } from "./placement/request.ts";
import { podView } from "./placement/testing.ts";

const pod = podView("a", { capacityBytes: 800, usedBytes: 699 });

test("pods with more room than the reserve, where nothing waits and that stay, get two loads each", () => {
  const others: readonly Partial<PodView>[] = [{ usedBytes: 700 }, { queued: 1 }, { draining: true }, { reachable: false }];
  for (const other of others) assert.equal(countFillable([{ ...pod, ...other }], defaultFillingPolicy), 0, JSON.stringify(other));
  assert.equal(countFillable([pod, { ...pod, loading: 5 }, { ...pod, queued: 3 }], defaultFillingPolicy), 4);
});

test("what was used last comes first, each once, and nothing that is too old or was found again", () => {
  const used = array(tuple(integer({ min: 0, max: 30 }), integer({ min: 0, max: 1_000 }), boolean()));
  check(
    property(used, integer({ min: 0, max: 1_000 }), (uses, sinceMs) => {
      const lost = createLostModels();
      const expected = new Map<string, number>();
      for (const [at, usedMs, found] of uses) {
        if (found) lost.remove(`m${at}`);
        else lost.add(`m${at}`, usedMs);
        if (found) expected.delete(`m${at}`);
        else expected.set(`m${at}`, usedMs);
      }
      assert.equal(lost.size, expected.size);
      const taken: number[] = [];
      for (let model = lost.take(sinceMs); model !== undefined; model = lost.take(sinceMs)) {
        taken.push(expected.get(model) ?? Number.NaN);
        expected.delete(model);
      }
      assert.deepEqual(
        taken,
        taken.toSorted((a, b) => b - a),
      );
      assert.ok(taken.every((usedMs) => usedMs >= sinceMs));
      assert.ok([...expected.values()].every((usedMs) => usedMs < sinceMs));
    }),
  );
});
