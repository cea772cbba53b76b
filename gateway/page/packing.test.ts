import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type Box, pack } from "./packing.mjs";

const slack = 1e-6;

function assertSound(boxes: readonly Box[], sizes: readonly number[], column: { width: number; height: number; bytes: number }) {
  assert.equal(boxes.length, sizes.length);
  const scale =
    (column.width * column.height) /
    Math.max(
      column.bytes,
      sizes.reduce((sum, size) => sum + size, 0),
    );
  for (const [at, { x, y, width, height }] of boxes.entries()) {
    assert.ok(
      x >= 0 && x + width <= column.width * (1 + slack) && y >= -slack * column.height && y + height <= column.height + slack,
    );
    const area = (sizes[at] ?? 0) * scale;
    assert.ok(Math.abs(width * height - area) <= area * slack, `${width} x ${height} is not ${area}`);
  }
  const rows = Map.groupBy(boxes, ({ y }) => y);
  for (const row of rows.values()) {
    for (const [at, box] of row.entries())
      assert.ok(at === 0 || box.x >= (row[at - 1]?.x ?? 0) + (row[at - 1]?.width ?? 0) - slack);
  }
  const tops = Array.from(rows, ([y, row]) => ({ y, bottom: y + (row[0]?.height ?? 0) })).sort((a, b) => a.y - b.y);
  for (const [at, { y }] of tops.entries()) assert.ok(at === 0 || y >= (tops[at - 1]?.bottom ?? 0) - slack * column.height);
}

test("a column that is full of equal copies, as the library's are, ends below its title", () => {
  const sizes = Array.from({ length: 163 }, () => 88_549);
  const column = { width: 592, height: 346, bytes: 14 * 2 ** 20 };
  const boxes = pack(sizes, column);
  assertSound(boxes, sizes, column);
  const { width, height } = boxes[0] ?? assert.fail();
  assert.ok(width / height > 0.8 && width / height < 1.25, `${width} x ${height} is no square`);
});

test("whatever is held, blocks are as large as their copies, within the column, and apart", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 1_000_000 }), { maxLength: 300 }).map((all) => all.toSorted((a, b) => b - a));
  const column = fc.record({
    width: fc.integer({ min: 24, max: 2_000 }),
    height: fc.integer({ min: 50, max: 1_000 }),
    bytes: fc.integer({ min: 1, max: 100_000_000 }),
  });
  fc.assert(fc.property(sizes, column, (all, of) => assertSound(pack(all, of), all, of)));
});
