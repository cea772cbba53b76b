// Owns how hot a copy is: how often it is used, and how much longer it stays for that than one that was used once.
// Eviction goes by last use, with a bonus for regular use: last use alone would let a burst of loads that nobody asks for
// twice push out what is used all the time, since news of use comes half a second late.
// Regular means used at many times, not much at one time: access logs are sampled, and one entry may stand for a hundred
// requests of a model that had one.
// Invariants: both averages decay by themselves; the bonus is bounded, so what is not used any more goes in its turn.

export interface Heat {
  /** Per second, averaged over half a minute. */
  readonly requests: number;
  /** How many times use was heard of in a second, likewise. */
  readonly times: number;
  readonly updatedMs: number;
}

export const noHeat: Heat = Object.freeze({ requests: 0, times: 0, updatedMs: 0 });

const memoryMs = 30_000;
const bonusStepMs = 10_000;
const longestBonusMs = 60_000;
/** Heard of at least every three seconds, on average: rates of anything rarer are guesses. */
const regularTimes = 0.33;

export function warmUp(heat: Heat, requests: number, nowMs: number): Heat {
  const kept = decay(heat, nowMs);
  const perSecond = 1_000 / memoryMs;
  return { requests: heat.requests * kept + requests * perSecond, times: heat.times * kept + perSecond, updatedMs: nowMs };
}

/** Requests per second; 0 for what is not used regularly. */
export function rateOf(heat: Heat, nowMs: number): number {
  const kept = decay(heat, nowMs);
  return heat.times * kept >= regularTimes ? heat.requests * kept : 0;
}

/** How much longer than after a single use it stays; of how hot it was when it was last used. */
export function bonusMs({ times }: Heat): number {
  const beyondOne = Math.max(0, (times * memoryMs) / 1_000 - 1);
  return Math.min(longestBonusMs, bonusStepMs * Math.log2(1 + beyondOne));
}

function decay({ updatedMs }: Heat, nowMs: number): number {
  return Math.exp(-Math.max(0, nowMs - updatedMs) / memoryMs);
}
