// Owns training: sums of the training folds -> parameters, by closed forms. No step is iterative, so the same data give
// the same bits everywhere: only + - * / and square root are used, which IEEE 754 fixes.
import type { Dataset } from "./datasets.ts";
import { addAll, chooseFolds, dealFolds, leaveFolds, type Moments, sumFolds } from "./folds.ts";
import { expandRow } from "./predict.ts";
import { type LinearRecipe, type NetworkRecipe, type Recipe, recipes } from "./recipes.ts";
import { solvePositive } from "./solve.ts";

export interface Trainer {
  readonly dataset: Dataset;
  /** The fold of each row. */
  readonly folds: Uint8Array;
  /** The training folds of each tenant, as bits. */
  readonly tenants: readonly number[];
  /** The tenant's parameters; predict.ts says how they lie. */
  train(tenant: number): Float32Array<ArrayBuffer>;
}

/** Sums every fold once; after that a training costs a small matrix only. */
export function createTrainer(dataset: Dataset, tenantCount: number): Trainer {
  const recipe: Recipe = recipes[dataset.name];
  const folds = dealFolds(dataset);
  const tenants = chooseFolds(dataset, tenantCount);
  const sums = sumFolds(dataset, expandAll(dataset, recipe), folds);
  const all = addAll(sums);
  return {
    dataset,
    folds,
    tenants,
    train(tenant) {
      const bits = tenants[tenant];
      if (bits === undefined) throw new RangeError(`there is no tenant ${tenant} of ${dataset.name}`);
      const centred = centre(leaveFolds(all, sums, bits));
      if (recipe.kind === "network") return trainNetwork(recipe, centred);
      return trainLinear(recipe, centred);
    },
  };
}

function expandAll(dataset: Dataset, recipe: Recipe): Float64Array {
  const rows = Array.from({ length: dataset.rowCount }, (_, row) =>
    expandRow(recipe, dataset.values.subarray(row * dataset.featureCount, (row + 1) * dataset.featureCount)),
  );
  const width = rows[0]?.length ?? 0;
  const all = new Float64Array(dataset.rowCount * width);
  for (const [row, values] of rows.entries()) all.set(values, row * width);
  return all;
}

interface Centred {
  readonly rowCount: number;
  readonly featureCount: number;
  readonly outputCount: number;
  readonly featureMeans: Float64Array;
  readonly outputMeans: Float64Array;
  /** Covariances of features, lower triangle. */
  readonly covariance: Float64Array;
  /** Covariances of features (rows) with outputs. */
  readonly cross: Float64Array;
}

function centre({ featureCount, outputCount, products }: Moments): Centred {
  const size = 1 + featureCount + outputCount;
  const rowCount = products[0] ?? 0;
  const mean = (i: number): number => (products[i * size] ?? 0) / rowCount;
  const product = (i: number, j: number): number => (products[i * size + j] ?? 0) / rowCount;
  const featureMeans = Float64Array.from({ length: featureCount }, (_, i) => mean(1 + i));
  const outputMeans = Float64Array.from({ length: outputCount }, (_, k) => mean(1 + featureCount + k));
  const covariance = new Float64Array(featureCount * featureCount);
  const cross = new Float64Array(featureCount * outputCount);
  for (let i = 0; i < featureCount; i++) {
    const own = featureMeans[i] ?? 0;
    for (let j = 0; j <= i; j++) covariance[i * featureCount + j] = product(1 + i, 1 + j) - own * (featureMeans[j] ?? 0);
    for (let k = 0; k < outputCount; k++) {
      cross[i * outputCount + k] = product(1 + featureCount + k, 1 + i) - own * (outputMeans[k] ?? 0);
    }
  }
  return { rowCount, featureCount, outputCount, featureMeans, outputMeans, covariance, cross };
}

/** Ridge regression of the outputs on pixels and hidden layer; the constant is not penalised. */
function trainNetwork(recipe: NetworkRecipe, centred: Centred): Float32Array<ArrayBuffer> {
  const { featureCount, outputCount, featureMeans, outputMeans, covariance, cross: weights } = centred;
  addToDiagonal(covariance, featureCount, recipe.penalty);
  solvePositive(covariance, weights, featureCount);
  const bias = outputMeans;
  for (let i = 0; i < featureCount; i++) {
    for (let k = 0; k < outputCount; k++) {
      bias[k] = (bias[k] ?? 0) - (featureMeans[i] ?? 0) * (weights[i * outputCount + k] ?? 0);
    }
  }
  return pack([weights, bias]);
}

/** On standardised columns: x -> (x - mean) / scale. A column that does not vary is left as it is. */
function trainLinear(recipe: LinearRecipe, centred: Centred): Float32Array<ArrayBuffer> {
  const { featureCount, outputCount, featureMeans, covariance, cross } = centred;
  const scales = Float64Array.from({ length: featureCount }, (_, i) => {
    const variance = covariance[i * featureCount + i] ?? 0;
    return variance > 1e-12 ? Math.sqrt(variance) : 1;
  });
  for (let i = 0; i < featureCount; i++) {
    const scale = scales[i] ?? 1;
    for (let j = 0; j <= i; j++) {
      covariance[i * featureCount + j] = (covariance[i * featureCount + j] ?? 0) / (scale * (scales[j] ?? 1));
    }
    for (let k = 0; k < outputCount; k++) cross[i * outputCount + k] = (cross[i * outputCount + k] ?? 0) / scale;
  }
  const { weights, bias } = recipe.kind === "discriminant" ? discriminant(recipe, centred) : regression(recipe, centred);
  return pack([featureMeans, scales, weights, bias]);
}

interface Solution {
  readonly weights: Float64Array;
  readonly bias: Float64Array;
}

function regression({ penalty }: LinearRecipe, centred: Centred): Solution {
  const { featureCount, covariance, cross: weights, outputMeans: bias } = centred;
  addToDiagonal(covariance, featureCount, penalty);
  solvePositive(covariance, weights, featureCount);
  return { weights, bias };
}

/**
 * Linear discriminant with classes held equally likely beforehand: the score of class k is m_k' S^-1 z - m_k' S^-1 m_k / 2,
 * where m_k is the class's mean and S the covariance inside classes. The softmax of the scores is the probability.
 */
function discriminant({ penalty }: LinearRecipe, centred: Centred): Solution {
  const { featureCount, outputCount, covariance, cross, outputMeans: shares } = centred;
  // The mean of class k less the mean of all is its covariance with the class's indicator over the class's share.
  const means = new Float64Array(featureCount * outputCount);
  for (let at = 0; at < means.length; at++) means[at] = (cross[at] ?? 0) / (shares[at % outputCount] ?? 1);
  for (let i = 0; i < featureCount; i++) {
    for (let j = 0; j <= i; j++) {
      let between = 0;
      for (let k = 0; k < outputCount; k++) {
        between += (shares[k] ?? 0) * (means[i * outputCount + k] ?? 0) * (means[j * outputCount + k] ?? 0);
      }
      covariance[i * featureCount + j] = (covariance[i * featureCount + j] ?? 0) - between;
    }
  }
  addToDiagonal(covariance, featureCount, penalty);
  const weights = Float64Array.from(means);
  solvePositive(covariance, weights, featureCount);
  const bias = new Float64Array(outputCount);
  for (let at = 0; at < means.length; at++) {
    const k = at % outputCount;
    bias[k] = (bias[k] ?? 0) - ((means[at] ?? 0) * (weights[at] ?? 0)) / 2;
  }
  return { weights, bias };
}

function addToDiagonal(matrix: Float64Array, size: number, value: number): void {
  for (let at = 0; at < matrix.length; at += size + 1) matrix[at] = (matrix[at] ?? 0) + value;
}

function pack(parts: readonly Float64Array[]): Float32Array<ArrayBuffer> {
  const packed = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    packed.set(part, at);
    at += part.length;
  }
  return packed;
}
