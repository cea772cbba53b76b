import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createLru, type LruEntry } from "./lru.ts";

const key = fc.constantFrom("a", "b", "c", "d", "e", "f", "g");
const timeMs = fc.integer({ min: -5, max: 30 });
const command = fc.oneof(
  fc.record({ do: fc.constant("set" as const), key, lastUsedMs: timeMs, sizeBytes: fc.nat(100) }),
  fc.record({ do: fc.constant("touch" as const), key, lastUsedMs: timeMs }),
  fc.record({ do: fc.constant("delete" as const), key }),
);

test("behaves like a list that is searched and sorted every time", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const lru = createLru<string>();
      // In order of first set, so that a stable sort breaks ties as promised.
      let model: LruEntry<string>[] = [];
      for (const step of commands) {
        const there = model.find((entry) => entry.key === step.key);
        if (step.do === "set") {
          const entry = { key: step.key, lastUsedMs: step.lastUsedMs, sizeBytes: step.sizeBytes };
          lru.set(step.key, entry);
          model = there === undefined ? [...model, entry] : model.map((old) => (old === there ? entry : old));
        } else if (step.do === "touch") {
          assert.equal(lru.touch(step.key, step.lastUsedMs), there !== undefined);
          model = model.map((old) => (old === there ? { ...old, lastUsedMs: Math.max(old.lastUsedMs, step.lastUsedMs) } : old));
        } else {
          assert.equal(lru.delete(step.key), there !== undefined);
          model = model.filter((old) => old !== there);
        }
        const expected = model.toSorted((a, b) => a.lastUsedMs - b.lastUsedMs);
        assert.deepEqual(
          Array.from(lru.fromOldest(), ({ key, lastUsedMs, sizeBytes }) => ({ key, lastUsedMs, sizeBytes })),
          expected,
        );
        assert.equal(lru.oldest()?.key, expected[0]?.key);
        assert.equal(lru.size, expected.length);
        assert.equal(
          lru.totalBytes,
          expected.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
        );
        assert.equal(lru.get(step.key)?.sizeBytes, model.find((entry) => entry.key === step.key)?.sizeBytes);
      }
    }),
  );
});

test("a walk goes on only while nothing changes", () => {
  const lru = createLru<string>();
  lru.set("a", { lastUsedMs: 1, sizeBytes: 1 });
  lru.set("b", { lastUsedMs: 2, sizeBytes: 1 });
  assert.throws(() => {
    for (const entry of lru.fromOldest()) lru.delete(entry.key);
  }, /changed/);
});

test("what is no time or size is a fault, and changes nothing", () => {
  const lru = createLru<string>();
  for (const sizeBytes of [-1, 0.5, Number.NaN, 2 ** 60])
    assert.throws(() => lru.set("a", { lastUsedMs: 0, sizeBytes }), RangeError);
  assert.throws(() => lru.set("a", { lastUsedMs: Number.NaN, sizeBytes: 1 }), RangeError);
  assert.throws(() => lru.touch("a", Number.POSITIVE_INFINITY), RangeError);
  assert.equal(lru.size, 0);
});

test("100,000 entries: the first of a walk come without sorting the rest", () => {
  const lru = createLru<number>();
  for (let at = 0; at < 100_000; at++) lru.set(at, { lastUsedMs: (at * 7_919) % 100_003, sizeBytes: 1 });
  for (let at = 0; at < 100_000; at += 2) lru.touch(at, 200_000 + at);
  let walked = 0;
  let lastMs = Number.NEGATIVE_INFINITY;
  for (const { lastUsedMs } of lru.fromOldest()) {
    assert.ok(lastUsedMs >= lastMs);
    lastMs = lastUsedMs;
    if (++walked === 100) break;
  }
  assert.equal(walked, 100);
  assert.equal(lru.totalBytes, 100_000);
});
