// Owns what every model of a built library must answer, from float64 arithmetic and the library's parameter file, without
// a model server. Holds no file open; memory is the parameters (12 MB) and the data sets.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Expectation, InferBody } from "./answer.ts";
import { type Dataset, type DatasetName, datasetNames, readDatasets, rowOf } from "./datasets.ts";
import {
  buildMagikaInput,
  indexOfLargest,
  magikaInputLength,
  magikaInputName,
  magikaOutputName,
  magikaSamples,
  readMagikaLabels,
} from "./magika.ts";
import { dataFolderName, magikaConfigFile, parameterFile, readManifest } from "./manifest.ts";
import { expandRow, predictExpanded } from "./predict.ts";
import { pick, type Random } from "./random.ts";
import { listTenantModels, magikaName, parameterCount, recipes, type TenantModel } from "./recipes.ts";

export type Prediction =
  | {
      readonly kind: "label";
      readonly value: number;
      readonly scores: readonly number[];
      readonly tolerance: number;
      /** The two best scores are so near that rounding may turn them: no label to check by. */
      readonly ambiguous: boolean;
    }
  | { readonly kind: "value"; readonly value: number; readonly tolerance: number };

export interface SampleCase {
  readonly body: InferBody;
  readonly expect: Expectation;
}

export interface Oracle {
  /** Every model of the library, magika last. */
  readonly models: readonly string[];
  /** The classes of a model that tells classes, in the order of its labels. */
  classesOf(model: string): readonly string[];
  /** What a tenant's model answers to a row of its data set, by number, or to raw values. */
  predict(model: string, input: number | ArrayLike<number>): Prediction;
  /** A request for any model and what its answer must be; never an ambiguous one. */
  sampleCase(model: string, random: Random): SampleCase;
}

/** Of an FP32 result, relative to the value, or absolute below 1. */
const tolerance = 1e-4;
const ambiguousMargin = 1e-3;
/** Of the rows of a data set hardly one in a thousand is ambiguous. */
const triesForClearRow = 1_000;

/** `folder` holds a library that buildLibrary made. A model that is not in it is a RangeError. */
export async function openOracle(folder: string): Promise<Oracle> {
  const manifest = await readManifest(folder);
  const data = join(folder, dataFolderName);
  const list = listTenantModels(manifest.tenants);
  const [parameters, datasets, labels] = await Promise.all([
    readParameters(join(folder, parameterFile), list),
    readDatasets(data),
    readMagikaLabels(join(data, magikaConfigFile)),
  ]);
  const rows = expandRows(datasets);
  const samples = magikaSamples.map((sample): SampleCase => buildMagikaCase(sample, labels));

  const find = (name: string): Known => {
    const found = parameters.get(name);
    if (found === undefined) throw new RangeError(`the library has no tenant's model ${name}`);
    return found;
  };
  const predict = (model: string, input: number | ArrayLike<number>): Prediction => {
    const { dataset, values } = find(model);
    const recipe = recipes[dataset];
    const expanded = typeof input === "number" ? rows[dataset][input] : expandRow(recipe, input);
    if (expanded === undefined) throw new RangeError(`${dataset} has no such row`);
    const scores = predictExpanded(recipe, values, expanded);
    return recipe.kind === "regression" ? { kind: "value", value: scores[0] ?? Number.NaN, tolerance } : classify(scores);
  };

  return {
    models: manifest.models.map(({ name }) => name),
    classesOf: (model) => (model === magikaName ? labels : datasets[find(model).dataset].classes),
    predict,
    sampleCase(model, random) {
      if (model === magikaName) return draw(samples, random);
      const dataset = datasets[find(model).dataset];
      for (let tries = 0; tries < triesForClearRow; tries++) {
        const row = pick(random, dataset.rowCount);
        const expect = predict(model, row);
        if (expect.kind === "label" && expect.ambiguous) continue;
        return { body: buildBody(dataset, row), expect };
      }
      throw new Error(`${model} finds every row ambiguous`);
    },
  };
}

interface Known {
  readonly dataset: DatasetName;
  readonly values: Float32Array;
}

async function readParameters(file: string, list: readonly TenantModel[]): Promise<ReadonlyMap<string, Known>> {
  const bytes = await readFile(file);
  const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / Float32Array.BYTES_PER_ELEMENT);
  const known = new Map<string, Known>();
  let at = 0;
  for (const { name, dataset } of list) {
    const next = at + parameterCount(recipes[dataset]);
    known.set(name, { dataset, values: all.subarray(at, next) });
    at = next;
  }
  if (at !== all.length) throw new RangeError(`${file} holds ${all.length} parameters, not ${at}`);
  return known;
}

/** Every row as the last step of its models sees it: a network's hidden values are the same for all tenants. */
function expandRows(datasets: Readonly<Record<DatasetName, Dataset>>): Readonly<Record<DatasetName, readonly Float64Array[]>> {
  const expand = (name: DatasetName): readonly Float64Array[] =>
    Array.from({ length: datasets[name].rowCount }, (_, row) => expandRow(recipes[name], rowOf(datasets[name], row)));
  const [iris = [], wine = [], cancer = [], diabetes = [], digits = []] = datasetNames.map(expand);
  return { iris, wine, cancer, diabetes, digits };
}

function classify(scores: Float64Array): Prediction {
  const value = indexOfLargest(scores);
  const best = scores[value] ?? Number.NaN;
  const ambiguous = scores.some((score, label) => label !== value && best - score < ambiguousMargin);
  return { kind: "label", value, scores: Array.from(scores), tolerance, ambiguous };
}

function buildBody(dataset: Dataset, row: number): InferBody {
  return { inputs: [{ name: "x", shape: [1, dataset.featureCount], datatype: "FP32", data: rowOf(dataset, row) }] };
}

function buildMagikaCase(
  { label, bytes }: { readonly label: string; readonly bytes: Uint8Array },
  labels: readonly string[],
): SampleCase {
  const value = labels.indexOf(label);
  if (value === -1) throw new RangeError(`magika has no label ${label}`);
  return {
    body: {
      inputs: [{ name: magikaInputName, shape: [1, magikaInputLength], datatype: "INT32", data: buildMagikaInput(bytes) }],
    },
    expect: { kind: "largest", output: magikaOutputName, value, length: labels.length },
  };
}

function draw<T>(items: readonly T[], random: Random): T {
  const item = items[pick(random, items.length)];
  if (item === undefined) throw new RangeError("there is nothing to draw from");
  return item;
}
