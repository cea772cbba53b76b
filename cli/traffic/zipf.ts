// Owns the choice of models as users choose them: few are called often, most are called rarely (Zipf's law).
// Invariant: the same seed gives the same ranks of the names on every machine.
import { createRandom, type Random, shuffle } from "#cli/library/random.ts";

export interface ZipfOptions {
  /** How much more a high rank is called than a low one: rank r has weight r^-exponent; 0 makes all equal. */
  readonly exponent: number;
  /** Decides which name has which rank. */
  readonly seed: number | string;
}

export interface Zipf {
  /** From the most called to the least. */
  readonly ranked: readonly string[];
  /** One name, by chance and rank; O(log n). */
  draw(random: Random): string;
}

export function createZipf(names: readonly string[], { exponent, seed }: ZipfOptions): Zipf {
  if (names.length === 0) throw new RangeError("there is no name to draw");
  if (!(exponent >= 0)) throw new RangeError(`the exponent must be 0 or more, not ${exponent}`);
  const ranked = shuffle(names, createRandom(`zipf ${seed}`));
  const ends = new Float64Array(ranked.length);
  let sum = 0;
  for (let at = 0; at < ends.length; at++) {
    sum += (at + 1) ** -exponent;
    ends[at] = sum;
  }
  return {
    ranked,
    draw(random) {
      const name = ranked[firstBeyond(ends, random() * sum)];
      if (name === undefined) throw new RangeError("a random number must be from 0 to 1, without 1");
      return name;
    },
  };
}

/** The first place whose end lies beyond the point. */
function firstBeyond(ends: Float64Array, point: number): number {
  let low = 0;
  let high = ends.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ends[middle] ?? 0) > point) high = middle;
    else low = middle + 1;
  }
  return low;
}
