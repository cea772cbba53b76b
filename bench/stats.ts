// Owns the arithmetic of rounds: medians, percentiles, and an order of paths in which none is favoured.

/** The middle value, or the mean of the two in the middle; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** The least value that `share` (0 to 1) of all values do not exceed; NaN of nothing. */
export function percentile(values: ArrayLike<number>, share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** In each round another is first, and every second round goes backwards. */
export function orderOfRound<T>(items: readonly T[], round: number): readonly T[] {
  const start = items.length === 0 ? 0 : (round >> 1) % items.length;
  const rotated = [...items.slice(start), ...items.slice(0, start)];
  return round % 2 === 0 ? rotated : rotated.toReversed();
}

/** The median over rounds of one value divided by another of the same round: what shifts both cancels out. */
export function medianRatio(tops: readonly number[], bottoms: readonly number[]): number {
  return median(ratiosOf(tops, bottoms));
}

/** Of each round. */
export function ratiosOf(tops: readonly number[], bottoms: readonly number[]): readonly number[] {
  return tops.map((top, at) => top / (bottoms[at] ?? Number.NaN));
}

export function roundTo(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
