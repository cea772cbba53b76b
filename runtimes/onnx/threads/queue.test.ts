import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { TurnQueue } from "./queue.ts";

test("keys take turns, however many items one of them has", () => {
  const queue = new TurnQueue<string>();
  for (const item of ["a1", "a2", "a3", "a4"]) queue.push(1, item);
  queue.push(2, "b1");
  queue.push(3, "c1");
  queue.push(2, "b2");
  const taken = Array.from({ length: 8 }, () => queue.take());
  assert.deepEqual(taken, ["a1", "b1", "c1", "a2", "b2", "a3", "a4", undefined]);
});

interface Item {
  readonly key: number;
}

/** What any such queue must hold: nothing lost, nothing twice, a key's items in order, nobody passed over twice. */
test("agrees with a list that is searched each time", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("push" as const), key: fc.nat(3) }),
    fc.record({ kind: fc.constant("take" as const) }),
    fc.record({ kind: fc.constant("remove" as const), at: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const queue = new TurnQueue<Item>();
      let keys: number[] = [];
      let waiting: Item[] = [];
      const made: Item[] = [];
      const forget = (item: Item): void => {
        waiting = waiting.filter((other) => other !== item);
        if (!waiting.some(({ key }) => key === item.key)) keys = keys.filter((key) => key !== item.key);
      };
      for (const next of steps) {
        if (next.kind === "push") {
          const item = { key: next.key };
          made.push(item);
          waiting.push(item);
          if (!keys.includes(next.key)) keys.push(next.key);
          queue.push(next.key, item);
        } else if (next.kind === "take") {
          const [key] = keys;
          const expected = waiting.find((item) => item.key === key);
          assert.equal(queue.take(), expected);
          if (expected === undefined) continue;
          keys = [...keys.slice(1), expected.key];
          forget(expected);
        } else {
          const item = made[next.at];
          if (item === undefined) continue;
          assert.equal(queue.remove(item.key, item), waiting.includes(item));
          forget(item);
        }
        for (const key of [0, 1, 2, 3]) assert.equal(queue.countOf(key), waiting.filter((item) => item.key === key).length);
      }
    }),
  );
});
