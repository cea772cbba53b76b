// Owns how blocks of different sizes fill a column from the bottom: in rows over its whole width, each block near a square.
// Pure. Invariants: no block leaves the column or lies on another; areas are as their sizes, the same scale for all.

/**
 * `sizes`: the largest first. `bytes`: what fills the whole column; more than that and all blocks are smaller.
 * Of each block x from the left and y from the top.
 */
export function pack(sizes, { width, height, bytes }) {
  const total = sizes.reduce((sum, size) => sum + Math.max(1, size), 0);
  const perByte = (width * height) / Math.max(1, bytes, total);
  const boxes = [];
  let left = height;
  for (let from = 0; from < sizes.length; ) {
    const side = Math.sqrt(Math.max(1, sizes[from]) * perByte);
    const row = sizes.slice(from, from + Math.max(1, Math.round(width / side))).map((size) => Math.max(1, size) * perByte);
    const area = row.reduce((sum, each) => sum + each, 0);
    // The last row ends where its blocks do.
    const isWhole = from + row.length < sizes.length;
    const rowHeight = isWhole ? area / width : Math.max(area / width, Math.min(side, left));
    let x = 0;
    for (const each of row) {
      const blockWidth = each / rowHeight;
      boxes.push({ x, y: left - rowHeight, width: blockWidth, height: rowHeight });
      x += blockWidth;
    }
    left -= rowHeight;
    from += row.length;
  }
  return boxes;
}
