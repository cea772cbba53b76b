import assert from "node:assert/strict";
import { test } from "node:test";
import { createManualClock, sleep, untilAborted } from "./clock.ts";

test("a manual clock moves only by hand and only forward", () => {
  const clock = createManualClock(1_000);
  clock.advance(5);
  assert.deepEqual([clock.now(), clock.monotonicMs()], [1_005, 5]);
  assert.throws(() => clock.advance(-1), RangeError);
});

test("sleep and untilAborted end with the signal; sleep keeps its reason", async () => {
  const stop = new AbortController();
  const reason = new Error("enough");
  const slept = assert.rejects(sleep(60_000, stop.signal), reason);
  const waited = untilAborted(stop.signal);
  stop.abort(reason);
  await slept;
  await waited;
  await assert.rejects(sleep(0, stop.signal), reason);
});
