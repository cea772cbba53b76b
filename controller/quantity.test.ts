import assert from "node:assert/strict";
import { test } from "node:test";
import { parseQuantity } from "./quantity.ts";

test("amounts as Kubernetes writes them", () => {
  const cases: readonly (readonly [unknown, number | undefined])[] = [
    ["64Mi", 64 * 2 ** 20],
    ["1G", 1e9],
    ["1.5Gi", 1.5 * 2 ** 30],
    ["500m", 0.5],
    ["1e3", 1_000],
    ["12", 12],
    [".5", 0.5],
    [7, 7],
    ["", undefined],
    ["64MB", undefined],
    ["-1", undefined],
    ["1e999", undefined],
    ["Mi", undefined],
    [-1, undefined],
    [Number.NaN, undefined],
    [null, undefined],
    ["1".repeat(65), undefined],
  ];
  for (const [given, amount] of cases) assert.equal(parseQuantity(given), amount, String(given));
});
