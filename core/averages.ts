// Owns a rate that is told in samples: its average over a time, and how much of it is sure. A sample stands for `weight`
// things of its size, so one of many that are alike says little: a model asked once must not look busy because the sample
// happened to hold that request.
// Source: the variance of a Horvitz-Thompson sum, weight * (weight - 1) * size^2 for each sample (Cochran, Sampling Techniques).

export interface Average {
  readonly value: number;
  /** Of `value`, from sampling alone: 0 when everything is told. */
  readonly variance: number;
}

export const noAverage: Average = Object.freeze({ value: 0, variance: 0 });

/** The exponential average after `seconds` more, in which samples came that sum up to `sum`. `kept` a second: 0 to 1. */
export function averageOn(was: Average, sum: number, variance: number, seconds: number, kept: number): Average {
  const old = kept ** seconds;
  const fresh = (1 - old) / seconds;
  return { value: was.value * old + sum * fresh, variance: was.variance * old ** 2 + variance * fresh ** 2 };
}

/** The variance of a sum of samples, each of which stood for `weight`: `sum` of their sizes, `count` of what they stand for. */
export function sampleVariance(sum: number, count: number, weight: number): number {
  return count <= 0 || weight <= 1 ? 0 : ((weight - 1) * sum ** 2) / count;
}

/** What is very likely not too much. */
export function sureOf({ value, variance }: Average): number {
  return Math.max(0, value - deviations * Math.sqrt(variance));
}

const deviations = 2;
