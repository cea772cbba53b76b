import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { array, asyncProperty, assert as check, constantFrom, integer, tuple } from "fast-check";
import { systemClock } from "#platform/clock.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { createQueue } from "./queue.ts";

const options = { clock: systemClock, random: () => 1 };

describe("the work queue", () => {
  test("gives each key once, in the order of arrival", async () => {
    const queue = createQueue(options);
    for (const key of ["a", "b", "a", "c", "b"]) queue.add(key);
    assert.equal(queue.length, 3);
    assert.deepEqual([await queue.take(), await queue.take(), await queue.take()], ["a", "b", "c"]);
    queue.close();
    assert.equal(await queue.take(), undefined);
  });

  test("a key that is added while it is at work has its turn again afterwards, and not before", async () => {
    const queue = createQueue(options);
    queue.add("a");
    assert.equal(await queue.take(), "a");
    queue.add("a");
    assert.equal(queue.length, 0);
    queue.done("a");
    assert.equal(queue.length, 1);
    assert.equal(await queue.take(), "a");
    queue.done("a");
    assert.equal(queue.length, 0);
    queue.close();
  });

  test("failures delay their own key, later and later, until a success", async () => {
    const queue = createQueue({ ...options, firstPauseMs: 5, longestPauseMs: 40 });
    const pauses: number[] = [];
    for (let at = 0; at < 5; at++) {
      const startedMs = performance.now();
      queue.retry("a");
      queue.add("b");
      assert.equal(await queue.take(), "b");
      queue.done("b");
      assert.equal(await queue.take(), "a");
      queue.done("a");
      pauses.push(performance.now() - startedMs);
    }
    assert.equal(queue.failures("a"), 5);
    // Never earlier than they should be: 5, 10, 20, 40, 40; a timer may be a millisecond early.
    for (const [at, least] of [5, 10, 20, 40, 40].entries()) assert.ok(pauses[at]! >= least - 1.5, pauses.join());
    queue.forget("a");
    assert.equal(queue.failures("a"), 0);
    queue.close();
  });

  test("an earlier time wins over a later one, and adding at once over both", async () => {
    const queue = createQueue(options);
    queue.addAfter("a", 3_600_000);
    queue.addAfter("a", 1);
    queue.addAfter("a", 3_600_000);
    assert.equal(await queue.take(), "a");
    queue.done("a");
    queue.addAfter("b", 3_600_000);
    queue.add("b");
    assert.equal(await queue.take(), "b");
    queue.close();
  });

  test("with several workers no key is at work twice at a time, and the last change of each is worked on", async () => {
    await check(
      asyncProperty(array(tuple(constantFrom("a", "b", "c"), integer({ min: 0, max: 2 })), { maxLength: 40 }), async (script) => {
        const queue = createQueue({ ...options, firstPauseMs: 1 });
        const wanted = new Map<string, number>();
        const seen = new Map<string, number>();
        const atWork = new Set<string>();
        const work = async (): Promise<void> => {
          for (let key = await queue.take(); key !== undefined; key = await queue.take()) {
            assert.equal(atWork.has(key), false);
            atWork.add(key);
            const version = wanted.get(key) ?? 0;
            await new Promise((resolve) => setImmediate(resolve));
            seen.set(key, version);
            atWork.delete(key);
            queue.done(key);
          }
        };
        const workers = [work(), work(), work()];
        for (const [at, [key, turns]] of script.entries()) {
          wanted.set(key, at);
          queue.add(key);
          for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
        }
        await waitUntil("all is seen", () => [...wanted].every(([key, version]) => seen.get(key) === version), Boolean, 30_000);
        queue.close();
        await Promise.all(workers);
      }),
      { numRuns: 30 },
    );
  });
});
