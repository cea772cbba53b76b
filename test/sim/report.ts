// Owns how samples of a simulation are read.

/** The value below which the part `q` of a sorted list lies. */
export function quantileOf(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}
