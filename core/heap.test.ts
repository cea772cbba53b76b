import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createHeap, type HeapNode } from "./heap.ts";

interface Item {
  readonly rank: number;
  readonly id: number;
}

const before = (a: Item, b: Item): boolean => (a.rank === b.rank ? a.id < b.id : a.rank < b.rank);
const sorted = (items: readonly Item[]): Item[] => items.toSorted((a, b) => a.rank - b.rank || a.id - b.id);

const command = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("push" as const), rank: fc.nat(20) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("move" as const), which: fc.nat(), rank: fc.nat(20) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("remove" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("pop" as const) }) },
);

test("behaves like an array that is sorted every time", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 80 }), (commands) => {
      const heap = createHeap<Item>(before);
      let model: HeapNode<Item>[] = [];
      let nextId = 0;
      for (const step of commands) {
        const chosen = "which" in step ? model[step.which % model.length] : undefined;
        if (step.do === "push") model.push(heap.push({ rank: step.rank, id: nextId++ }));
        else if (step.do === "move" && chosen !== undefined) {
          chosen.value = { rank: step.rank, id: chosen.value.id };
          heap.moved(chosen);
        } else {
          const gone = step.do === "pop" ? heap.first() : chosen;
          if (gone !== undefined) heap.remove(gone);
          model = model.filter((node) => node !== gone);
          if (gone !== undefined) {
            assert.equal(gone.at, -1);
            heap.remove(gone);
            heap.moved(gone);
          }
        }
        const expected = sorted(model.map(({ value }) => value));
        assert.equal(heap.size, expected.length);
        assert.deepEqual(heap.first()?.value, expected[0]);
        assert.deepEqual([...heap.ascending()], expected);
      }
    }),
  );
});

test("a walk that outlives a change throws, and one that ends before it does not", () => {
  const heap = createHeap<number>((a, b) => a < b);
  for (const value of [3, 1, 2]) heap.push(value);
  const walk = heap.ascending();
  assert.equal(walk.next().value, 1);
  heap.push(0);
  assert.throws(() => walk.next(), /changed while it was walked/);
  for (const value of heap.ascending()) {
    heap.push(value + 10);
    break;
  }
  assert.equal(heap.size, 5);
});
