// Owns prediction in float64: what a model must answer, without the model server. Parameters are the FP32 numbers that
// stand in the ONNX file, so both differ only by the rounding of the arithmetic.
// Parameters lie in this order, matrices row by row, one row per feature:
//   discriminant, regression: means, scales, weights, bias
//   network:                  weights of the pixels then of the hidden layer, bias
import { createRandom } from "./random.ts";
import type { LinearRecipe, NetworkRecipe, Recipe } from "./recipes.ts";

/** The hidden layer of all networks with the same numbers of features and hidden values: relu(x weights + bias). */
export interface HiddenLayer {
  /** featureCount x hiddenCount, row by row. */
  readonly weights: Float32Array<ArrayBuffer>;
  readonly bias: Float32Array<ArrayBuffer>;
}

/** The usual pixel: the layer's bias is chosen about it, so that hidden values switch on and off within the data. */
const middlePixel = 5;
const largestPixel = 16;

export function buildHiddenLayer({
  featureCount,
  hiddenCount,
}: Pick<NetworkRecipe, "featureCount" | "hiddenCount">): HiddenLayer {
  const random = createRandom("digits hidden layer");
  const weights = Float32Array.from({ length: featureCount * hiddenCount }, () => (2 * random() - 1) / largestPixel);
  const bias = Float32Array.from({ length: hiddenCount }, (_, h) => {
    let sum = 2 * random() - 1;
    for (let i = 0; i < featureCount; i++) sum -= middlePixel * (weights[i * hiddenCount + h] ?? 0);
    return sum;
  });
  return { weights, bias };
}

const hiddenLayers = new Map<string, HiddenLayer>();

/** Built once per shape; there is one shape. */
export function hiddenLayerOf(recipe: NetworkRecipe): HiddenLayer {
  const key = `${recipe.featureCount} ${recipe.hiddenCount}`;
  const layer = hiddenLayers.get(key) ?? buildHiddenLayer(recipe);
  hiddenLayers.set(key, layer);
  return layer;
}

/** What the last, trained step of a model sees of an input row: its nearest FP32 values and, of a network, the hidden ones. */
export function expandRow(recipe: Recipe, row: ArrayLike<number>): Float64Array {
  const { featureCount } = recipe;
  if (row.length !== featureCount) throw new RangeError(`a row of ${row.length} values, where the model takes ${featureCount}`);
  const hiddenCount = recipe.kind === "network" ? recipe.hiddenCount : 0;
  const expanded = new Float64Array(featureCount + hiddenCount);
  for (let i = 0; i < featureCount; i++) expanded[i] = Math.fround(row[i] ?? Number.NaN);
  if (recipe.kind !== "network") return expanded;
  const { weights, bias } = hiddenLayerOf(recipe);
  for (let h = 0; h < hiddenCount; h++) {
    let sum = bias[h] ?? 0;
    for (let i = 0; i < featureCount; i++) sum += (expanded[i] ?? 0) * (weights[i * hiddenCount + h] ?? 0);
    expanded[featureCount + h] = Math.max(sum, 0);
  }
  return expanded;
}

/** The scores of a classifier, or the one value of a regression, of a row from expandRow. */
export function predictExpanded(recipe: Recipe, parameters: Float32Array, expanded: Float64Array): Float64Array {
  return recipe.kind === "network"
    ? multiply(parameters, 0, expanded, recipe.outputCount)
    : multiply(parameters, 2 * recipe.featureCount, standardise(recipe, parameters, expanded), recipe.outputCount);
}

function standardise({ featureCount }: LinearRecipe, parameters: Float32Array, x: Float64Array): Float64Array {
  const z = new Float64Array(featureCount);
  for (let i = 0; i < featureCount; i++) {
    z[i] = ((x[i] ?? 0) - (parameters[i] ?? 0)) / (parameters[featureCount + i] ?? 1);
  }
  return z;
}

/** x weights + bias, with the weights `from` there in the parameters and the bias behind them. */
function multiply(parameters: Float32Array, from: number, x: Float64Array, outputCount: number): Float64Array {
  const scores = new Float64Array(outputCount);
  const biasAt = from + x.length * outputCount;
  for (let k = 0; k < outputCount; k++) {
    let sum = parameters[biasAt + k] ?? Number.NaN;
    for (let i = 0, at = from + k; i < x.length; i++, at += outputCount) sum += (x[i] ?? 0) * (parameters[at] ?? 0);
    scores[k] = sum;
  }
  return scores;
}
