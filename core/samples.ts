// Owns the latency histogram: a fixed number of buckets that grow by a constant factor, so every quantile has the same
// small relative error whatever its size, and two histograms add up exactly.
// Invariants: from 1 us to 3 hours a quantile is within 4 % of a recorded value of that rank; outside, it is within the
// recorded extremes. 290 numbers of memory, no growth. Source of the bucket rule: Masson and others, "DDSketch" (2019).

const relativeError = 0.04;
const growth = (1 + relativeError) / (1 - relativeError);
const logGrowth = Math.log(growth);
const leastMs = 0.001;
const mostMs = 3 * 3_600_000;
const bucketCount = bucketOf(mostMs) + 1;

export interface Histogram {
  /** The sum of all weights. */
  readonly count: number;
  /** Of all times, each with its weight. */
  readonly sumMs: number;
  /** A negative time (a clock that was set) counts as 0; what is not a number, or has no positive weight, is left out. */
  record(ms: number, weight?: number): void;
  /** The value below or at which the share `q` (0 to 1) of the weight lies; undefined when nothing was recorded. */
  quantile(q: number): number | undefined;
  /** Adds everything that another histogram recorded. */
  merge(other: Histogram): void;
  reset(): void;
  /** For merge and for export: weights by bucket, and the recorded extremes. */
  state(): HistogramState;
}

export interface HistogramState {
  readonly weights: Readonly<ArrayLike<number>>;
  readonly minMs: number;
  readonly maxMs: number;
  readonly sumMs: number;
  /** The weight of all that took no longer, whole buckets only: within the relative error. */
  cumulative(ms: number): number;
}

export function createHistogram(): Histogram {
  const weights = new Float64Array(bucketCount);
  let count = 0;
  let sumMs = 0;
  let minMs = Number.POSITIVE_INFINITY;
  let maxMs = Number.NEGATIVE_INFINITY;

  return {
    get count(): number {
      return count;
    },

    get sumMs(): number {
      return sumMs;
    },

    record(ms, weight = 1): void {
      if (Number.isNaN(ms) || !Number.isFinite(weight) || weight <= 0) return;
      const value = Math.min(Math.max(ms, 0), Number.MAX_VALUE);
      const bucket = Math.min(bucketOf(value), bucketCount - 1);
      weights[bucket] = (weights[bucket] ?? 0) + weight;
      count += weight;
      sumMs += value * weight;
      minMs = Math.min(minMs, value);
      maxMs = Math.max(maxMs, value);
    },

    quantile(q): number | undefined {
      if (!(q >= 0 && q <= 1)) throw new RangeError(`not a quantile: ${q}`);
      if (count === 0) return undefined;
      if (q === 0) return minMs;
      if (q === 1) return maxMs;
      const wanted = q * count;
      let passed = 0;
      for (let bucket = 0; bucket < bucketCount; bucket++) {
        passed += weights[bucket] ?? 0;
        if (passed >= wanted) return Math.min(Math.max(valueOf(bucket), minMs), maxMs);
      }
      return maxMs;
    },

    merge(other): void {
      const state = other.state();
      for (let bucket = 0; bucket < bucketCount; bucket++) {
        const weight = state.weights[bucket] ?? 0;
        weights[bucket] = (weights[bucket] ?? 0) + weight;
        count += weight;
      }
      sumMs += state.sumMs;
      minMs = Math.min(minMs, state.minMs);
      maxMs = Math.max(maxMs, state.maxMs);
    },

    reset(): void {
      weights.fill(0);
      count = 0;
      sumMs = 0;
      minMs = Number.POSITIVE_INFINITY;
      maxMs = Number.NEGATIVE_INFINITY;
    },

    state: () => {
      const copied = weights.slice();
      return { weights: copied, minMs, maxMs, sumMs, cumulative: (ms) => weightAtMost(copied, ms) };
    },
  };
}

/** Bucket 0 holds all up to leastMs; bucket i all from growth^(i-1) to growth^i times that. */
function bucketOf(ms: number): number {
  return ms <= leastMs ? 0 : Math.ceil(Math.log(ms / leastMs) / logGrowth);
}

function weightAtMost(weights: Float64Array, ms: number): number {
  let passed = 0;
  // A bucket counts when all of it is at most `ms`; what lies beyond the last one never does.
  for (let bucket = 0; bucket < bucketCount - 1 && upperOf(bucket) <= ms * (1 + 1e-9); bucket++) passed += weights[bucket] ?? 0;
  return passed;
}

function upperOf(bucket: number): number {
  return leastMs * growth ** bucket;
}

/** The value that is no more than the relative error away from both ends of the bucket. */
function valueOf(bucket: number): number {
  return bucket === 0 ? leastMs : (leastMs * 2 * growth ** bucket) / (growth + 1);
}
