import assert from "node:assert/strict";
import { test } from "node:test";
import { createSlowMisses } from "./slow.ts";
import type { MissRecord } from "./spans.ts";

function record(tookMs: number, more: Partial<MissRecord> = {}): MissRecord {
  return { kind: "miss", model: "m", atMs: 0, tookMs, failure: undefined, traceId: undefined, steps: [], ...more };
}

test("what is slower than nine of ten, or failed, is kept, the newest first, and no more than 64", () => {
  const slow = createSlowMisses();
  for (let at = 0; at < 100; at++) slow.add(record(10 + (at % 10)));
  const usual = slow.kept;
  assert.ok(usual < 60, `${usual} usual ones were kept`);
  slow.add(record(1, { failure: "no-capacity", model: "failed" }));
  slow.add(record(500, { model: "slow" }));
  slow.add(record(11, { model: "usual" }));
  slow.add(record(900, { model: "" }));
  assert.deepEqual(
    slow
      .list()
      .slice(0, 2)
      .map(({ model }) => model),
    ["slow", "failed"],
  );
  for (let at = 0; at < 5_000; at++) slow.add(record(10 * at));
  assert.equal(slow.list().length, 64);
});

test("what the caller got wrong is not kept, and does not count for what is usual", () => {
  const slow = createSlowMisses();
  for (let at = 0; at < 20; at++) slow.add(record(100));
  const { kept } = slow;
  for (let at = 0; at < 2_000; at++) slow.add(record(0.1, { failure: "model-not-found" }));
  assert.equal(slow.kept, kept);
  slow.add(record(50, { model: "usual" }));
  assert.equal(slow.kept, kept);
});
