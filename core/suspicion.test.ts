import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createSuspicions } from "./suspicion.ts";

const minute = 60_000;

test("two deaths with nobody else to blame are enough, others' company asks for a third", () => {
  const table: [string, readonly number[], boolean][] = [
    ["one death", [1], false],
    ["two alone", [1, 1], true],
    ["one alone, one of two", [1, 2], true],
    ["two of two", [2, 2], false],
    ["three in company", [4, 4, 4], true],
    ["strange counts", [0, 0], true],
  ];
  for (const [what, deaths, kept] of table) {
    const suspicions = createSuspicions({ maxSuspects: 10 });
    for (const [at, count] of deaths.entries()) suspicions.died("m", `p${at}`, count, 0);
    assert.equal(suspicions.check("m", 0) !== undefined, kept, what);
  }
});

test("it is tried again after a while, and costs one pod each time, twice as rarely", () => {
  const suspicions = createSuspicions({ maxSuspects: 10 });
  let nowMs = 0;
  let deaths = 0;
  for (; nowMs < 24 * 60 * minute; nowMs += minute) {
    if (suspicions.check("m", nowMs) !== undefined) continue;
    deaths += 1;
    suspicions.died("m", `p${deaths}`, 1, nowMs);
  }
  assert.ok(deaths <= 30, `${deaths} pods in a day`);
  assert.ok((suspicions.check("m", nowMs)?.podIds.length ?? 0) <= 8);
});

test("a load that ends well clears it", () => {
  const suspicions = createSuspicions({ maxSuspects: 10 });
  suspicions.died("m", "a", 1, 0);
  suspicions.cleared("m");
  suspicions.died("m", "b", 1, 0);
  assert.equal(suspicions.check("m", 0), undefined);
});

test("memory is bounded", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50)), (keys) => {
      const suspicions = createSuspicions({ maxSuspects: 5 });
      for (const key of keys) suspicions.died(`m${key}`, "p", 1, 0);
      assert.ok(suspicions.size <= 5);
    }),
  );
});
