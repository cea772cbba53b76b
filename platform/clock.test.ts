import assert from "node:assert/strict";
import { test } from "node:test";
import { createManualClock, orAborted, sleep, untilAborted } from "./clock.ts";

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

test("work that is not waited for may fail unheard, before the signal and behind it", async () => {
  const unheard: unknown[] = [];
  const hear = (error: unknown): void => void unheard.push(error);
  process.on("unhandledRejection", hear);
  try {
    const stop = new AbortController();
    const late = Promise.withResolvers<never>();
    const waited = assert.rejects(orAborted(late.promise, stop.signal), /enough/);
    stop.abort(new Error("enough"));
    await waited;
    late.reject(new Error("late"));
    await assert.rejects(orAborted(Promise.reject(new Error("later")), stop.signal), /enough/);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(unheard, []);
  } finally {
    process.off("unhandledRejection", hear);
  }
});
