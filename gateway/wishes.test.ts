// What is remembered of loads that somebody asked for.
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import type { Failure } from "./failure.ts";
import { createWishes } from "./wishes.ts";

test("the number of copies that was asked for last is remembered, and one copy is no wish for more", async () => {
  const wishes = createWishes({
    copies: { want: () => undefined, unwant: () => undefined, state: () => ({ ready: 9, underWay: 0 }) },
    home: { of: () => undefined },
    peers: { load: () => assert.fail("another gateway was asked") },
    clock: systemClock,
  });
  const ask = (copies: number): Promise<unknown> =>
    wishes.load("x", "r1", { copies, wait: true, timeoutMs: 1_000, signal: new AbortController().signal });
  assert.equal(wishes.wished("x", "r1"), 0);
  await ask(3);
  assert.deepEqual([wishes.wished("x", "r1"), wishes.wished("x", "r2"), wishes.wished("y", "r1")], [3, 0, 0]);
  await ask(2);
  assert.equal(wishes.wished("x", "r1"), 2);
  await ask(1);
  assert.equal(wishes.wished("x", "r1"), 0);
});

test("copies that are not ready in time are told with what they lack, where that is known", async () => {
  const state: { ready: number; underWay: number; failure?: Failure } = { ready: 2, underWay: 1 };
  const wishes = createWishes({
    copies: {
      want: () => undefined,
      unwant: () => undefined,
      state: () => state,
    },
    home: { of: () => undefined },
    peers: { load: () => assert.fail("another gateway was asked") },
    clock: systemClock,
  });
  const ask = (): Promise<unknown> =>
    wishes.load("x", "r1", { copies: 4, wait: true, timeoutMs: 10, signal: new AbortController().signal });
  const reason = "2 of 4 copies were ready in time";
  assert.deepEqual(await ask(), { kind: "failed", code: "deadline-exceeded", reason });
  state.failure = { kind: "failed", code: "no-capacity", reason: "no pod has room" };
  assert.deepEqual(await ask(), { ...state.failure, reason: `${reason}; of the others: no pod has room` });
});
