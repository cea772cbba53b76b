// Owns how many copies of a model its demand asks for.
//
//   copies = the most of: minCopies; rate / rate of one copy; concurrency / concurrency of one copy; 2 when in continuous
//   use (the second for availability); at most maxCopies and one for each pod that could hold it.
//
// Up at once; down only after the demand has been well below what fewer copies bear, for a while without a break: a
// demand that swings within the band between up and down changes nothing.
// Invariants: a constant demand leads to a constant number; more demand never leads to fewer copies.

export interface Demand {
  readonly requestsPerSecond: number;
  /** Requests in the pods at a time, on average. */
  readonly concurrency: number;
  /** Since when it has been used without a longer pause; undefined when it is not in use. */
  readonly inUseSinceMs: number | undefined;
}

export interface CopyLimits {
  readonly minCopies: number;
  /** The model's own bound and the number of pods, whichever is less. */
  readonly maxCopies: number;
}

export interface ScalingPolicy {
  readonly ratePerCopy: number;
  readonly concurrencyPerCopy: number;
  /** So long in use, a model gets a second copy. */
  readonly secondCopyAfterMs: number;
  /** So long the demand must be low. */
  readonly downAfterMs: number;
  /** Low is what fewer copies bear with this part of their strength. */
  readonly downPart: number;
}

export const defaultScalingPolicy: ScalingPolicy = Object.freeze({
  ratePerCopy: 200,
  concurrencyPerCopy: 8,
  secondCopyAfterMs: 5 * 60_000,
  downAfterMs: 2 * 60_000,
  downPart: 0.7,
});

export interface ScalingState {
  readonly copies: number;
  /** Since when fewer would do. */
  readonly lowSinceMs: number | undefined;
  /** The most that was needed since then. */
  readonly lowPeak: number;
}

export const noScaling: ScalingState = Object.freeze({ copies: 0, lowSinceMs: undefined, lowPeak: 0 });

export type ScalingWhy = "settings" | "rate" | "concurrency" | "availability" | "idle";

export interface CopiesWanted {
  readonly state: ScalingState;
  readonly why: ScalingWhy;
  /** The number that counts for demand alone, without the second copy for availability. */
  readonly forDemand: number;
  readonly reason: string;
}

export function decideCopies(
  demand: Demand,
  state: ScalingState,
  limits: CopyLimits,
  policy: ScalingPolicy,
  nowMs: number,
): CopiesWanted {
  const now = needed(demand, limits, policy, nowMs, 1);
  const withMargin = needed(demand, limits, policy, nowMs, policy.downPart);
  const said = { why: now.why, forDemand: now.forDemand, reason: now.reason };
  if (now.copies >= state.copies || state.copies > limits.maxCopies) {
    return { ...said, state: { copies: now.copies, lowSinceMs: undefined, lowPeak: 0 } };
  }
  // Inside the band: fewer would do only if nothing changes.
  if (withMargin.copies >= state.copies) return { ...said, state: { ...state, lowSinceMs: undefined, lowPeak: 0 } };
  const lowSinceMs = state.lowSinceMs ?? nowMs;
  const lowPeak = Math.max(state.lowPeak, withMargin.copies);
  if (nowMs - lowSinceMs < policy.downAfterMs) return { ...said, state: { copies: state.copies, lowSinceMs, lowPeak } };
  return { ...said, state: { copies: lowPeak, lowSinceMs: undefined, lowPeak: 0 } };
}

function needed(
  { requestsPerSecond, concurrency, inUseSinceMs }: Demand,
  { minCopies, maxCopies }: CopyLimits,
  policy: ScalingPolicy,
  nowMs: number,
  part: number,
): { readonly copies: number; readonly why: ScalingWhy; readonly forDemand: number; readonly reason: string } {
  const byRate = Math.ceil(requestsPerSecond / (policy.ratePerCopy * part));
  const byConcurrency = Math.ceil(concurrency / (policy.concurrencyPerCopy * part));
  const inUse = inUseSinceMs !== undefined;
  const steady = inUse && nowMs - inUseSinceMs >= policy.secondCopyAfterMs;
  const forDemand = clamp(inUse ? Math.max(1, byRate, byConcurrency) : 0, minCopies, maxCopies);
  const copies = clamp(steady ? Math.max(2, forDemand) : forDemand, minCopies, maxCopies);
  const rate = `${requestsPerSecond.toFixed(1)} requests/s, ${concurrency.toFixed(1)} at a time`;
  if (copies > forDemand) return { copies, why: "availability", forDemand, reason: `in continuous use: ${rate}` };
  if (copies <= minCopies && minCopies > 0) return { copies, why: "settings", forDemand, reason: `minCopies is ${minCopies}` };
  if (!inUse) return { copies, why: "idle", forDemand, reason: "it is not in use" };
  return { copies, why: byConcurrency > byRate ? "concurrency" : "rate", forDemand, reason: rate };
}

/** The upper bound counts more: a model may ask for more copies than there are pods. */
function clamp(copies: number, least: number, most: number): number {
  return Math.min(Math.max(copies, least), most);
}
