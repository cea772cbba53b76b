import assert from "node:assert/strict";
import { test } from "node:test";
import { createAllowance } from "./allowance.ts";

test("without a limit, or before anything was seen, the capacity counts", () => {
  const free = createAllowance({ loadConcurrency: 2, capacityBytes: 1_000, memoryLimitBytes: undefined });
  free.seen(1e9, 0);
  assert.equal(free.bytes, 1_000);
  assert.equal(createAllowance({ loadConcurrency: 2, capacityBytes: 1_000, memoryLimitBytes: 5_000 }).bytes, 1_000);
});

test("what the server takes for itself leaves less for copies", () => {
  const allowance = createAllowance({ loadConcurrency: 2, capacityBytes: 1_000, memoryLimitBytes: 1_000 });
  allowance.seen(300, 0);
  assert.equal(allowance.bytes, 700);
  // Two copies of 100 turn out to take 150 each, or there are libraries.
  allowance.seen(600, 200);
  assert.equal(allowance.bytes, 600);
});

test("memory that was freed and kept is not the server's own", () => {
  const allowance = createAllowance({ loadConcurrency: 2, capacityBytes: 1_000, memoryLimitBytes: 1_000 });
  allowance.seen(300, 0);
  allowance.seen(800, 500);
  allowance.seen(800, 100);
  assert.equal(allowance.bytes, 700);
});

test("what looked like the server's own and was not is given back; a new life begins anew", () => {
  const allowance = createAllowance({ loadConcurrency: 2, capacityBytes: 1_000, memoryLimitBytes: 1_000 });
  allowance.seen(900, 100);
  assert.equal(allowance.bytes, 200);
  allowance.seen(850, 600);
  // 750, less a part for the 50 that were once seen beyond what is accounted for.
  assert.equal(allowance.bytes, 692);
  allowance.lost();
  assert.equal(allowance.bytes, 1_000);
});

test("sizes that were thought too large and are learned smaller do not open the limit", () => {
  const allowance = createAllowance({ loadConcurrency: 2, capacityBytes: 10_000, memoryLimitBytes: 2_000 });
  allowance.seen(1_500, 0);
  // Ten copies of 100 are thought to take 400 each; then they are known to take 100.
  allowance.seen(2_500, 4_000);
  assert.ok(allowance.bytes <= 500, `${allowance.bytes}`);
  for (let n = 0; n < 30; n++) allowance.seen(2_501 + n, 500);
  assert.ok(allowance.bytes <= 500, `${allowance.bytes}`);
});

test("a peak that came and went costs a part, never all", () => {
  const allowance = createAllowance({ loadConcurrency: 2, capacityBytes: 1_000, memoryLimitBytes: 1_000 });
  allowance.seen(200, 0);
  allowance.seen(900, 700);
  assert.equal(allowance.bytes, 800);
  // A large model, loaded when little is held: twice its size for a moment, and the memory stays.
  allowance.seen(1_100, 500);
  for (let n = 0; n < 100; n++) allowance.seen(1_100, 100 + n);
  assert.ok(allowance.bytes > 550, `${allowance.bytes}`);
});

test("copies under a limit: used bytes and the server's own stay below it, however wrong the sizes are", () => {
  let seed = 7;
  const random = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  for (const factor of [0.5, 1, 3]) {
    const limitBytes = 1_000_000;
    const allowance = createAllowance({ loadConcurrency: 2, capacityBytes: limitBytes, memoryLimitBytes: limitBytes });
    const copies: number[] = [];
    let peakBytes = 200_000;
    const trueBytes = (): number => 200_000 + copies.reduce((sum, size) => sum + factor * size, 0);
    const accounted = (): number => copies.reduce((sum, size) => sum + size, 0);
    allowance.seen(peakBytes, 0);
    let most = 0;
    for (let n = 0; n < 2_000; n++) {
      const next = 1_000 + Math.floor(random() * 9_000);
      while (copies.length > 0 && accounted() + next > allowance.bytes) copies.shift();
      if (accounted() + next > allowance.bytes) continue;
      copies.push(next);
      peakBytes = Math.max(peakBytes, trueBytes());
      allowance.seen(peakBytes, accounted());
      most = Math.max(most, peakBytes);
    }
    // One load is what can go wrong before it is seen.
    assert.ok(most <= limitBytes + factor * 10_000, `${factor}: ${most}`);
    assert.ok(most > 0.55 * limitBytes, `${factor}: ${most}`);
  }
});

test("what the server says of itself bounds the options, not the other way round", () => {
  const allowance = createAllowance({ capacityBytes: 1_000, loadConcurrency: 2, memoryLimitBytes: undefined });
  allowance.told({ capacityBytes: 600, loadConcurrency: 1 });
  assert.deepEqual([allowance.bytes, allowance.capacityBytes, allowance.loadConcurrency], [600, 600, 1]);
  allowance.told({ capacityBytes: 5_000, loadConcurrency: 8 });
  assert.deepEqual([allowance.bytes, allowance.capacityBytes, allowance.loadConcurrency], [1_000, 1_000, 2]);
});
