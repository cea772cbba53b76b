import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { type Dataset, type DatasetName, datasetNames, parseDataset, readDatasets } from "./datasets.ts";
import { addAll, chooseFolds, dealFolds, foldCount, hasFold, leaveFolds, sumFolds, trainingFoldCount } from "./folds.ts";
import { buildMagikaInput, indexOfLargest, magikaInputLength } from "./magika.ts";
import { expandRow, predictExpanded } from "./predict.ts";
import { createRandom, shuffle } from "./random.ts";
import { recipes } from "./recipes.ts";
import { solvePositive } from "./solve.ts";
import { fetchSources } from "./sources.ts";
import { createTrainer } from "./train.ts";

const { dataFolder } = fetchSources();
const datasets = await readDatasets(dataFolder);

describe("data sets", () => {
  it("have the sizes and classes that they are known for", () => {
    const told = Object.values(datasets).map(({ name, rowCount, featureCount, classes }) => [
      name,
      rowCount,
      featureCount,
      classes.length,
    ]);
    assert.deepEqual(told, [
      ["iris", 150, 4, 3],
      ["wine", 178, 13, 3],
      ["cancer", 569, 30, 2],
      ["diabetes", 442, 10, 0],
      ["digits", 1797, 64, 10],
    ]);
  });

  it("are refused when a row, a column, a field, a class or the header is wrong", async () => {
    const text = await readFile(join(dataFolder, "iris.csv"), "latin1");
    const lines = text.split("\n");
    const change = (at: number, line: string): string => lines.with(at, line).join("\n");
    assert.equal(parseDataset("iris", text.replaceAll("\n", "\r\n")).rowCount, 150);
    assert.throws(() => parseDataset("iris", lines.toSpliced(3, 1).join("\n")), /iris.csv has 149 rows, not 150/);
    assert.throws(() => parseDataset("iris", change(7, "1,2,3,0")), /row 7 of iris.csv has 4 columns, not 5/);
    assert.throws(() => parseDataset("iris", change(7, "1,2,,4,0")), /row 7 of iris.csv holds a field/);
    assert.throws(() => parseDataset("iris", change(7, "1,2,0x3,4,0")), /row 7 of iris.csv holds a field/);
    assert.throws(() => parseDataset("iris", change(7, "1,2,3,4,3")), /classes of iris.csv/);
    assert.throws(() => parseDataset("iris", change(0, "150,5,a,b,c")), /header of iris.csv/);
  });
});

describe("folds", () => {
  it("hold nearly the same number of rows of each class", () => {
    for (const dataset of Object.values(datasets)) {
      const folds = dealFolds(dataset);
      for (const label of dataset.classes.length > 0 ? new Set(dataset.targets) : [undefined]) {
        const counts = Array.from({ length: foldCount }, () => 0);
        for (const [row, fold] of folds.entries()) {
          if (label === undefined || dataset.targets[row] === label) counts[fold] = (counts[fold] ?? 0) + 1;
        }
        assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, dataset.name);
      }
    }
  });

  it("are chosen differently for each tenant", () => {
    const chosen = chooseFolds(datasets.iris, 2_000);
    assert.equal(new Set(chosen).size, 2_000);
    for (const bits of chosen) {
      assert.equal(Array.from({ length: foldCount }, (_, fold) => hasFold(bits, fold)).filter(Boolean).length, trainingFoldCount);
    }
    assert.throws(() => chooseFolds(datasets.iris, 5_000), RangeError);
  });

  it("sum up to the same as the training rows themselves", () => {
    const dataset = datasets.wine;
    const folds = dealFolds(dataset);
    const bits = chooseFolds(dataset, 1)[0]!;
    const sums = sumFolds(dataset, dataset.values, folds);
    const { products } = leaveFolds(addAll(sums), sums, bits);
    const rows = Array.from(folds.keys()).filter((row) => hasFold(bits, folds[row]!));
    assert.equal(products[0], rows.length);
    const size = 1 + 13 + 3;
    const sum = rows.reduce((total, row) => total + dataset.values[row * 13 + 4]! * dataset.values[row * 13 + 2]!, 0);
    assert.ok(Math.abs(products[5 * size + 3]! - sum) < 1e-9 * sum);
    const ofClass1 = rows.filter((row) => dataset.targets[row] === 1).length;
    assert.equal(products[(1 + 13 + 1) * size], ofClass1);
  });
});

describe("training", () => {
  const floors: Readonly<Record<DatasetName, number>> = { iris: 0.95, wine: 0.95, cancer: 0.94, diabetes: 0.42, digits: 0.95 };
  for (const name of datasetNames) {
    it(`predicts rows of ${name} that it never saw`, (context) => {
      const trainer = createTrainer(datasets[name], 1_999);
      const scores = Array.from({ length: 60 }, (_, at) => scoreUnseen(datasets[name], trainer, at * 33)).sort((a, b) => a - b);
      const median = scores[30]!;
      context.diagnostic(
        `median ${name === "diabetes" ? "R2" : "accuracy"} ${median.toFixed(3)}, least ${scores[0]!.toFixed(3)}`,
      );
      assert.ok(median >= floors[name], `${median}`);
    });
  }

  it("refuses a tenant that is not there", () => {
    assert.throws(() => createTrainer(datasets.iris, 3).train(3), /there is no tenant 3 of iris/);
  });
});

/** Accuracy, or R2 of a regression, on the folds that the tenant did not train on. */
function scoreUnseen(dataset: Dataset, trainer: ReturnType<typeof createTrainer>, tenant: number): number {
  const recipe = recipes[dataset.name];
  const parameters = trainer.train(tenant);
  const unseen = Array.from(trainer.folds.keys()).filter((row) => !hasFold(trainer.tenants[tenant]!, trainer.folds[row]!));
  assert.ok(unseen.length >= dataset.rowCount / 4);
  const width = dataset.featureCount;
  const told = unseen.map((row) => {
    const scores = predictExpanded(
      recipe,
      parameters,
      expandRow(recipe, dataset.values.subarray(row * width, (row + 1) * width)),
    );
    return { is: dataset.targets[row]!, told: dataset.classes.length > 0 ? indexOfLargest(scores) : scores[0]! };
  });
  if (dataset.classes.length > 0) return told.filter((one) => one.is === one.told).length / told.length;
  const mean = told.reduce((sum, { is }) => sum + is, 0) / told.length;
  const squares = (of: (one: { is: number; told: number }) => number): number => told.reduce((sum, one) => sum + of(one) ** 2, 0);
  return 1 - squares(({ is, told }) => is - told) / squares(({ is }) => is - mean);
}

describe("solvePositive", () => {
  it("solves what was multiplied", () => {
    const entry = fc.integer({ min: -9, max: 9 });
    const system = fc.integer({ min: 1, max: 8 }).chain((size) =>
      fc.record({
        size: fc.constant(size),
        root: fc.array(entry, { minLength: size * size, maxLength: size * size }),
        x: fc.array(entry, { minLength: size * 2, maxLength: size * 2 }),
      }),
    );
    fc.assert(
      fc.property(system, ({ size, root, x }) => {
        const each = Array.from({ length: size }, (_, i) => i);
        const at = (i: number, j: number): number =>
          each.reduce((sum, k) => sum + root[i * size + k]! * root[j * size + k]!, i === j ? 1 : 0);
        const a = Float64Array.from(each.flatMap((i) => each.map((j) => at(i, j))));
        const b = Float64Array.from(
          each.flatMap((i) => [0, 1].map((c) => each.reduce((sum, j) => sum + at(i, j) * x[j * 2 + c]!, 0))),
        );
        solvePositive(a, b, size);
        for (const [i, value] of b.entries()) assert.ok(Math.abs(value - x[i]!) < 1e-6);
      }),
    );
  });

  it("refuses what is not positive definite", () => {
    assert.throws(() => solvePositive(Float64Array.of(1, 2, 2, 1), Float64Array.of(1, 1), 2), RangeError);
  });
});

describe("random numbers", () => {
  it("depend on the seed alone and fill the range", () => {
    const draw = (seed: number | string): number[] => Array.from({ length: 1_000 }, createRandom(seed));
    assert.deepEqual(draw(7), draw(7));
    assert.notDeepEqual(draw(7), draw(8));
    const numbers = draw("seed");
    assert.ok(numbers.every((number) => number >= 0 && number < 1));
    assert.ok(Math.abs(numbers.reduce((a, b) => a + b, 0) / 1_000 - 0.5) < 0.05);
  });

  it("shuffle without loss", () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), fc.integer(), (items, seed) => {
        assert.deepEqual(
          shuffle(items, createRandom(seed)).sort((a, b) => a - b),
          items.toSorted((a, b) => a - b),
        );
      }),
    );
  });
});

describe("buildMagikaInput", () => {
  const cases: readonly {
    readonly name: string;
    readonly bytes: Uint8Array;
    readonly beg: readonly number[];
    readonly end: readonly number[];
  }[] = [
    { name: "nothing", bytes: new Uint8Array(), beg: [], end: [] },
    { name: "white space", bytes: Uint8Array.of(32, 9, 10, 11, 12, 13), beg: [], end: [] },
    // Leading white space counts at the end, and trailing at the beginning.
    { name: "white space around", bytes: Uint8Array.of(32, 65, 66, 10), beg: [65, 66, 10], end: [32, 65, 66] },
    { name: "controls that are no white space", bytes: Uint8Array.of(28, 65, 133), beg: [28, 65, 133], end: [28, 65, 133] },
    {
      name: "white space as long as a block",
      bytes: new Uint8Array(5_000).fill(32).fill(65, 4_096),
      beg: [],
      end: Array.from({ length: 904 + 120 }, (_, at) => (at < 120 ? 32 : 65)),
    },
    {
      name: "more than a block",
      bytes: Uint8Array.from({ length: 5_000 }, (_, at) => 33 + (at % 90)),
      beg: Array.from({ length: 1_024 }, (_, at) => 33 + (at % 90)),
      end: Array.from({ length: 1_024 }, (_, at) => 33 + ((3_976 + at) % 90)),
    },
  ];
  for (const { name, bytes, beg, end } of cases) {
    it(`takes ${name}`, () => {
      const padding = (count: number): number[] => Array.from({ length: count }, () => 256);
      const input = buildMagikaInput(bytes);
      assert.equal(input.length, magikaInputLength);
      assert.deepEqual(input, [...beg, ...padding(1_024 - beg.length), ...padding(1_024 - end.length), ...end]);
    });
  }
});
