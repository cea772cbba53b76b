// Owns seeded randomness: the same seed gives the same numbers on every machine (32-bit integer arithmetic only).
// Source of the step: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014), at 32 bits.
import { fnv1a32, mix32 } from "#core/rendezvous.ts";

/** A number from 0 (included) to 1 (excluded). */
export type Random = () => number;

const step = 0x9e3779b9;

export function createRandom(seed: number | string): Random {
  let state = mix32(typeof seed === "string" ? fnv1a32(seed) : seed);
  return () => {
    state = (state + step) | 0;
    return mix32(state) / 2 ** 32;
  };
}

/** A whole number from 0 to count - 1. */
export function pick(random: Random, count: number): number {
  return Math.floor(random() * count);
}

/** A shuffled copy (Fisher and Yates). */
export function shuffle<T>(items: readonly T[], random: Random): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = pick(random, last + 1);
    const [a, b] = [shuffled[last], shuffled[other]];
    if (a === undefined || b === undefined) continue;
    shuffled[last] = b;
    shuffled[other] = a;
  }
  return shuffled;
}
