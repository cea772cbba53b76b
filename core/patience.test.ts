import assert from "node:assert/strict";
import { test } from "node:test";
import { createPatiences, type Patience, patienceMs } from "./patience.ts";

const minuteMs = 60_000;

function open(maxModels = 100) {
  const changed: string[] = [];
  const patiences = createPatiences({ maxModels, onChange: (model) => changed.push(model) });
  const outlast = (model: string, heldMs: number, nowMs: number, times = 3): void => {
    const given = patiences.of(model);
    for (let each = 0; each < times; each++) patiences.outlasted(model, given, heldMs, nowMs);
  };
  return { patiences, changed, outlast };
}

test("a model is given more time when its inferences take long again and again, and no sooner", () => {
  const { patiences, changed, outlast } = open();
  outlast("a", 500, 0, 2);
  assert.deepEqual([patiences.of("a"), changed], [0, []]);
  outlast("a", 500, 1, 1);
  assert.deepEqual([patiences.of("a"), changed], [1, ["a"]]);
  assert.equal(patiences.of("b"), 0);
});

test("long ones far apart are no habit", () => {
  const { patiences, outlast } = open();
  for (let at = 0; at < 10; at++) outlast("a", 500, at * 11 * minuteMs, 1);
  assert.equal(patiences.of("a"), 0);
});

const steps: [what: string, heldMs: number, patience: Patience][] = [
  ["3 s", 1_000, 1],
  ["10 s", 8_000, 1],
  ["12 s", 10_000, 2],
  ["10 min", 600_000, 2],
];
for (const [what, heldMs, patience] of steps) {
  test(`a silence of ${what} is given ${patienceMs[patience]} ms`, () => {
    const { patiences, outlast } = open();
    outlast("a", heldMs, 0);
    assert.equal(patiences.of("a"), patience);
  });
}

test("what was under way before it was given more says nothing more about it", () => {
  const { patiences } = open();
  for (let each = 0; each < 1_000; each++) patiences.outlasted("a", 0, 1_000, 0);
  assert.equal(patiences.of("a"), 1);
});

test("one that is answered quickly for long is given less again, a step at a time", () => {
  const { patiences, changed, outlast } = open();
  outlast("a", 60_000, 0);
  assert.equal(patiences.of("a"), 2);
  for (let at = 0; at < 100; at++) patiences.took("a", 200, at * 1_000);
  assert.equal(patiences.of("a"), 2, "for long");
  for (let at = 0; at <= 10; at++) patiences.took("a", 200, at * minuteMs);
  assert.equal(patiences.of("a"), 1);
  // One that takes long again starts the time anew.
  for (let at = 10; at < 20; at++) for (let each = 0; each < 3; each++) patiences.took("a", 200, at * minuteMs);
  patiences.took("a", 1_900, 19.5 * minuteMs);
  for (let each = 0; each < 30; each++) patiences.took("a", 200, 21 * minuteMs);
  assert.equal(patiences.of("a"), 1);
  for (let each = 0; each < 30; each++) patiences.took("a", 200, 30 * minuteMs);
  assert.equal(patiences.of("a"), 0);
  assert.deepEqual(changed, ["a", "a", "a"]);
});

test("a few quick answers are not enough", () => {
  const { patiences, outlast } = open();
  outlast("a", 1_000, 0);
  for (let each = 0; each < 19; each++) patiences.took("a", 10, 60 * minuteMs);
  assert.equal(patiences.of("a"), 1);
});

test("memory is bounded, and who is forgotten is said", () => {
  const { patiences, changed, outlast } = open(2);
  for (const model of ["a", "b", "c"]) outlast(model, 1_000, 0);
  assert.deepEqual([patiences.of("a"), patiences.of("b"), patiences.of("c")], [0, 1, 1]);
  assert.deepEqual(changed, ["a", "b", "a", "c"]);
  patiences.forget("b");
  assert.equal(patiences.of("b"), 0);
});
