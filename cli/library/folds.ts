// Owns how a data set is cut into folds, which folds each tenant trains on, and the sums a fold adds to a training.
// Invariants: folds hold nearly the same number of rows and, per class, nearly the same number of each class; no two
// tenants of a data set train on the same folds; sums of disjoint folds add up, so a training never reads rows again.
import type { Dataset } from "./datasets.ts";
import { createRandom, shuffle } from "./random.ts";

export const foldCount = 16;
/** 4,368 ways to choose these 11 of 16. The other 5 are never seen in training. */
export const trainingFoldCount = 11;

/** The fold of each row. */
export function dealFolds(dataset: Dataset): Uint8Array {
  const rows = shuffle(
    Array.from({ length: dataset.rowCount }, (_, row) => row),
    createRandom(`${dataset.name} folds`),
  );
  // A stable sort: shuffled inside a class, then dealt out like cards.
  if (dataset.classes.length > 0) rows.sort((a, b) => (dataset.targets[a] ?? 0) - (dataset.targets[b] ?? 0));
  const folds = new Uint8Array(dataset.rowCount);
  for (const [at, row] of rows.entries()) folds[row] = at % foldCount;
  return folds;
}

/** The training folds of each tenant as a set of bits, all different. */
export function chooseFolds(dataset: Dataset, tenantCount: number): readonly number[] {
  const choices: number[] = [];
  for (let bits = 0; bits < 2 ** foldCount; bits++) if (bitCount(bits) === trainingFoldCount) choices.push(bits);
  if (tenantCount > choices.length) throw new RangeError(`there are only ${choices.length} choices of folds`);
  return shuffle(choices, createRandom(`${dataset.name} tenants`)).slice(0, tenantCount);
}

export function hasFold(bits: number, fold: number): boolean {
  return ((bits >>> fold) & 1) === 1;
}

/**
 * Sums over rows of u u', where u = [1, features, outputs] and outputs is 1 for the row's class and 0 for the others,
 * or the measured value. Row by row; only the lower triangle is filled.
 */
export interface Moments {
  readonly featureCount: number;
  readonly outputCount: number;
  readonly products: Float64Array;
}

/** One Moments per fold. `features` holds what the trainer sees of each row, row by row. */
export function sumFolds(dataset: Dataset, features: Float64Array, folds: Uint8Array): readonly Moments[] {
  const featureCount = features.length / dataset.rowCount;
  const outputCount = Math.max(dataset.classes.length, 1);
  const size = 1 + featureCount + outputCount;
  const sums = Array.from({ length: foldCount }, () => ({ featureCount, outputCount, products: new Float64Array(size * size) }));
  const u = new Float64Array(size);
  for (let row = 0; row < dataset.rowCount; row++) {
    const target = dataset.targets[row] ?? Number.NaN;
    u.fill(0);
    u[0] = 1;
    u.set(features.subarray(row * featureCount, (row + 1) * featureCount), 1);
    u[1 + featureCount + (dataset.classes.length > 0 ? target : 0)] = dataset.classes.length > 0 ? 1 : target;
    addOuter(sums[folds[row] ?? 0]?.products ?? new Float64Array(0), u);
  }
  return sums;
}

/** The Moments of all rows. */
export function addAll(sums: readonly Moments[]): Moments {
  const [first, ...others] = sums;
  if (first === undefined) throw new RangeError("there are no folds");
  const products = Float64Array.from(first.products);
  for (const other of others) addScaled(products, other.products, 1 + first.featureCount + first.outputCount, 1);
  return { ...first, products };
}

/** The Moments of a tenant's training rows: those of all rows less the folds that are left out, which are fewer. */
export function leaveFolds(all: Moments, sums: readonly Moments[], bits: number): Moments {
  const products = Float64Array.from(all.products);
  for (const [fold, left] of sums.entries()) {
    if (!hasFold(bits, fold)) addScaled(products, left.products, 1 + all.featureCount + all.outputCount, -1);
  }
  return { ...all, products };
}

function addScaled(to: Float64Array, from: Float64Array, size: number, sign: number): void {
  for (let i = 0; i < size; i++) {
    for (let at = i * size; at <= i * size + i; at++) to[at] = (to[at] ?? 0) + sign * (from[at] ?? 0);
  }
}

function addOuter(products: Float64Array, u: Float64Array): void {
  const size = u.length;
  for (let i = 0; i < size; i++) {
    const value = u[i] ?? 0;
    if (value === 0) continue;
    for (let j = 0; j <= i; j++) products[i * size + j] = (products[i * size + j] ?? 0) + value * (u[j] ?? 0);
  }
}

function bitCount(bits: number): number {
  let count = 0;
  for (let rest = bits; rest > 0; rest &= rest - 1) count++;
  return count;
}
