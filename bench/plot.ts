// Owns what a plot is before it is drawn: lines over two axes. A benchmark keeps plots beside its figures.

export interface Axis {
  readonly label: string;
  /** `tail`: shares of 1, spread so that 90, 99 and 99.9 % stand equally far apart. Linear when absent. */
  readonly scale?: "log" | "tail" | undefined;
}

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** What it is compared with, such as an ideal. */
  readonly isReference?: boolean | undefined;
}

export interface Plot {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
}

/** 0 to 99.9 %, closer together where the tail is. */
export const quantiles: readonly number[] = Array.from({ length: 61 }, (_, step) => 1 - 10 ** (-step / 20));

/** The values at `quantiles`; NaN of nothing. */
export function quantilesOf(values: readonly number[]): readonly number[] {
  const sorted = Float64Array.from(values).sort();
  return quantiles.map((share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN);
}

/** Several runs of the same, each its values at `quantiles`: the median of the runs at each. */
export function latencyLine(name: string, runs: readonly (readonly number[])[]): Line {
  const points = quantiles.flatMap((share, at): (readonly [number, number])[] => {
    const values = runs.map((run) => run[at] ?? Number.NaN).filter((value) => !Number.isNaN(value));
    const sorted = values.sort((a, b) => a - b);
    const middle = sorted[sorted.length >> 1];
    return middle === undefined ? [] : [[round(share), round(middle)]];
  });
  return { name, points };
}

export const shareAxis: Axis = { label: "share of requests that are faster", scale: "tail" };

export function round(value: number): number {
  return Number(value.toPrecision(5));
}
