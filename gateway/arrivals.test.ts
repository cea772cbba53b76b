import assert from "node:assert/strict";
import { test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
import { createArrivals, type Expected } from "./arrivals.ts";

const pod = (runtime: string | undefined, more: Partial<Expected> = {}): Expected => ({
  runtime,
  linked: false,
  absent: false,
  missingMs: 0,
  ...more,
});

function openBench() {
  const clock = createManualClock();
  clock.advance(100_000);
  return { clock, arrivals: createArrivals(clock) };
}

test("a pod on its way is waited for, for 15 s, by those who want its runtime", () => {
  const { clock, arrivals } = openBench();
  const coming = pod("a", { missingMs: clock.monotonicMs() });
  assert.deepEqual(
    ["a", "b", undefined].map((runtime) => arrivals.awaits(runtime, [coming])),
    [true, false, true],
  );
  assert.equal(arrivals.awaits("a", [{ ...coming, linked: true }]), false);
  assert.equal(arrivals.awaits("a", [{ ...coming, absent: true }]), false);
  assert.equal(arrivals.awaits("a", [{ ...coming, linked: true }, coming]), true, "one is there, and has no room; one comes");
  clock.advance(14_999);
  assert.equal(arrivals.awaits("a", [coming]), true);
  clock.advance(1);
  assert.equal(arrivals.awaits("a", [coming]), false);
});

test("what has just left is hoped for while no other of its runtime is there", () => {
  const { clock, arrivals } = openBench();
  const other = pod("b", { linked: true });
  clock.advance(15_000);
  assert.equal(arrivals.awaits("a", [other]), false);
  arrivals.left(pod("a", { linked: true }));
  assert.deepEqual(
    ["a", "b", undefined].map((runtime) => arrivals.awaits(runtime, [other])),
    [true, false, false],
  );
  assert.equal(arrivals.awaits("a", [other, pod("a", { linked: true })]), false);
  clock.advance(14_000);
  // Lost long before it was taken off the list.
  arrivals.left(pod("a", { missingMs: clock.monotonicMs() - 10_000 }));
  assert.equal(arrivals.awaits("a", [other]), true);
  clock.advance(5_000);
  assert.equal(arrivals.awaits("a", [other]), false);
});

test("nobody at all is hoped for when the gateway has just started", () => {
  const { clock, arrivals } = openBench();
  assert.equal(arrivals.awaits("a", []), true);
  assert.equal(arrivals.awaits("a", [pod("b", { linked: true })]), false);
  clock.advance(15_000);
  assert.equal(arrivals.awaits("a", []), false);
});
