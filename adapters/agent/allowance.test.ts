import assert from "node:assert/strict";
import { test } from "node:test";
import { createAllowance } from "./allowance.ts";

test("without a limit, or before anything was seen, the capacity counts", () => {
  const free = createAllowance({ loadConcurrency: 2, capacityBytes: 1_000, memoryLimitBytes: undefined });
  free.seen(1e9, 0);
  assert.equal(free.bytes, 1_000);
  assert.equal(createAllowance({ loadConcurrency: 2, capacityBytes: 1_000, memoryLimitBytes: 5_000 }).bytes, 1_000);
});

const limited = (memoryLimitBytes: number): ReturnType<typeof createAllowance> =>
  createAllowance({ loadConcurrency: 2, capacityBytes: 1e9, memoryLimitBytes });

test("what the server takes for itself leaves less for copies", () => {
  const allowance = limited(1_000);
  allowance.seen(300, 0);
  // Some of what is left to the limit stays free for what loads need for a moment.
  assert.equal(allowance.bytes, 560);
  // Libraries come with the first copies: what is left is what can still be taken.
  for (let n = 1; n <= 18; n++) allowance.seen(500 + 20 * n, 20 * n);
  assert.equal(allowance.bytes, 360);
});

test("memory that was freed and kept can be used again", () => {
  const allowance = limited(1_000);
  allowance.seen(300, 0);
  allowance.seen(800, 500);
  allowance.seen(800, 100);
  assert.equal(allowance.bytes, 560);
});

test("beyond the limit there is less room in the measure in which it was exceeded", () => {
  const allowance = limited(1_000);
  allowance.seen(200, 0);
  allowance.seen(900, 700);
  allowance.seen(1_100, 750);
  assert.equal(allowance.bytes, Math.floor((750 * 0.8 * 800) / 900));
});

test("sizes that were thought too large and are learned smaller do not open the limit", () => {
  const allowance = limited(2_000);
  allowance.seen(1_500, 0);
  // Copies are thought to take four times what they do; then they are known, and more of them are taken.
  for (let n = 1; n <= 10; n++) allowance.seen(1_500 + 25 * n, 100 * n);
  let accountedBytes = 260;
  for (let n = 0; n < 500; n++) {
    if (accountedBytes + 6 <= allowance.bytes) accountedBytes += 6;
    allowance.seen(1_500 + accountedBytes, accountedBytes);
  }
  assert.ok(accountedBytes > 380 && accountedBytes < 500, `${accountedBytes}`);
});

test("peaks that come and go cost a part each, and a new life begins anew", () => {
  const allowance = limited(1_000);
  allowance.seen(200, 0);
  allowance.seen(900, 700);
  // A large model, loaded when little is held: twice its size for a moment, and the memory stays.
  allowance.seen(990, 200);
  for (let n = 0; n < 100; n++) allowance.seen(990, 100 + n);
  assert.ok(allowance.bytes > 500, `${allowance.bytes}`);
  allowance.lost();
  assert.equal(allowance.bytes, 1e9);
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
    assert.ok(most <= limitBytes, `${factor}: ${most}`);
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

test("what the server says of itself counts instead, where it is to, and the options where it says nothing", () => {
  const allowance = createAllowance({ capacityBytes: 1_000, loadConcurrency: 2, serverLimits: true });
  assert.deepEqual([allowance.bytes, allowance.capacityBytes, allowance.loadConcurrency], [1_000, 1_000, 2]);
  allowance.told({ capacityBytes: 5_000, loadConcurrency: 8 });
  assert.deepEqual([allowance.bytes, allowance.capacityBytes, allowance.loadConcurrency], [5_000, 5_000, 8]);
  allowance.told({ capacityBytes: 600, loadConcurrency: 1 });
  assert.deepEqual([allowance.bytes, allowance.capacityBytes, allowance.loadConcurrency], [600, 600, 1]);
});

test("a server that stays beyond its limit has ever less room, down to a half, until it is below it again", () => {
  const allowance = limited(1_000);
  allowance.seen(200, 0);
  allowance.seen(900, 700);
  allowance.seen(1_050, 750);
  assert.ok(allowance.exceeded);
  const before = allowance.bytes;
  allowance.seen(1_050, 500);
  assert.ok(allowance.bytes < before, `${allowance.bytes} of ${before}`);
  for (let n = 0; n < 100; n++) allowance.seen(1_050, 400);
  assert.equal(allowance.bytes, 400);
  allowance.seen(800, 400);
  assert.equal(allowance.exceeded, false);
  assert.equal(allowance.bytes, 440);
});

test("sizes that are corrected tell the room anew", () => {
  const allowance = limited(1_000);
  allowance.seen(200, 0);
  // Thought to take four times what they do.
  for (let n = 1; n <= 10; n++) allowance.seen(200 + 20 * n, 80 * n);
  assert.equal(allowance.bytes, 1_240);
  allowance.repriced();
  allowance.seen(400, 200);
  assert.equal(allowance.bytes, 640);
});

test("memory that ran out leaves less of the capacity, if much was held, and loads that go well give it back", () => {
  const allowance = createAllowance({ capacityBytes: 1_000, loadConcurrency: 2 });
  allowance.overdrawn(100);
  assert.equal(allowance.bytes, 1_000);
  allowance.overdrawn(800);
  assert.equal(allowance.bytes, 720);
  allowance.lost();
  assert.equal(allowance.bytes, 720);
  for (let n = 0; n < 200; n++) allowance.loaded();
  assert.equal(allowance.bytes, 1_000);
  for (let n = 0; n < 50; n++) allowance.overdrawn(allowance.bytes);
  assert.equal(allowance.bytes, 500);
});
