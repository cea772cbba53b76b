// Owns the five data sets as scikit-learn ships them: their files, their exact sizes, and reading them.
// Invariants: every row and column count is checked, every field is a plain number, every class occurs.
// Values are kept as written; what a model sees is their nearest FP32 number.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

export const datasetNames = ["iris", "wine", "cancer", "diabetes", "digits"] as const;
export type DatasetName = (typeof datasetNames)[number];

export interface Dataset {
  readonly name: DatasetName;
  readonly rowCount: number;
  readonly featureCount: number;
  /** Row by row. */
  readonly values: Float64Array;
  /** The class of each row by its place in `classes`, or the measured value when there are no classes. */
  readonly targets: Float64Array;
  /** Empty when the target is a value, not a class. */
  readonly classes: readonly string[];
}

interface Source {
  readonly rowCount: number;
  readonly featureCount: number;
  /** Features and, unless a second file has it, the target in the last column. */
  readonly file: string;
  readonly targetFile?: string;
  readonly separator: string;
  /** From the file's first line, a list, or none for a measured value. */
  readonly classes: "header" | readonly string[];
}

const digitNames = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

const sources = {
  iris: { file: "iris.csv", rowCount: 150, featureCount: 4, separator: ",", classes: "header" },
  wine: { file: "wine_data.csv", rowCount: 178, featureCount: 13, separator: ",", classes: "header" },
  cancer: { file: "breast_cancer.csv", rowCount: 569, featureCount: 30, separator: ",", classes: "header" },
  diabetes: {
    file: "diabetes_data_raw.csv.gz",
    targetFile: "diabetes_target.csv.gz",
    rowCount: 442,
    featureCount: 10,
    separator: " ",
    classes: [],
  },
  digits: { file: "digits.csv.gz", rowCount: 1797, featureCount: 64, separator: ",", classes: digitNames },
} as const satisfies Record<DatasetName, Source>;

/** All files of all data sets. */
export const dataFiles: readonly string[] = Object.values<Source>(sources).flatMap(({ file, targetFile }) =>
  targetFile === undefined ? [file] : [file, targetFile],
);

export async function readDatasets(folder: string): Promise<Readonly<Record<DatasetName, Dataset>>> {
  const [iris, wine, cancer, diabetes, digits] = await Promise.all([
    readDataset(folder, "iris"),
    readDataset(folder, "wine"),
    readDataset(folder, "cancer"),
    readDataset(folder, "diabetes"),
    readDataset(folder, "digits"),
  ]);
  return { iris, wine, cancer, diabetes, digits };
}

export async function readDataset(folder: string, name: DatasetName): Promise<Dataset> {
  const source: Source = sources[name];
  const text = await readText(join(folder, source.file));
  const targetText = source.targetFile === undefined ? undefined : await readText(join(folder, source.targetFile));
  return parseDataset(name, text, targetText);
}

/** Throws a RangeError that names the file and the line when it is not the data set that is expected. */
export function parseDataset(name: DatasetName, text: string, targetText?: string): Dataset {
  const source: Source = sources[name];
  const { file, rowCount, featureCount, separator } = source;
  const lines = linesOf(text);
  const classes = source.classes === "header" ? parseHeader(source, lines.shift() ?? "") : source.classes;
  const targetLines = targetText === undefined ? undefined : linesOf(targetText);
  for (const [path, found] of [
    [file, lines],
    [source.targetFile ?? "", targetLines ?? lines],
  ] as const) {
    if (found.length !== rowCount) throw new RangeError(`${path} has ${found.length} rows, not ${rowCount}`);
  }
  const values = new Float64Array(rowCount * featureCount);
  const targets = new Float64Array(rowCount);
  for (const [row, line] of lines.entries()) {
    const fields = line.split(separator);
    if (targetLines !== undefined) fields.push(targetLines[row] ?? "");
    if (fields.length !== featureCount + 1) {
      throw new RangeError(`row ${row + 1} of ${file} has ${fields.length} columns, not ${featureCount + 1}`);
    }
    const numbers = fields.map((field) => parseNumber(field, file, row));
    targets[row] = numbers.pop() ?? Number.NaN;
    values.set(numbers, row * featureCount);
  }
  if (classes.length > 0) checkClasses(file, targets, classes.length);
  return { name, rowCount, featureCount, values, targets, classes };
}

/** One row as written in the file. */
export function rowOf(dataset: Dataset, row: number): number[] {
  const { featureCount } = dataset;
  return Array.from(dataset.values.subarray(row * featureCount, (row + 1) * featureCount));
}

async function readText(path: string): Promise<string> {
  const bytes = await readFile(path);
  return (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("latin1");
}

function linesOf(text: string): string[] {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/** `rows,features,class names...` */
function parseHeader({ file, rowCount, featureCount }: Source, line: string): string[] {
  const [rows, features, ...classes] = line.split(",");
  if (rows !== String(rowCount) || features !== String(featureCount) || classes.length < 2) {
    throw new RangeError(`the header of ${file} is not of ${rowCount} rows with ${featureCount} features`);
  }
  return classes;
}

const numberShape = /^-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i;

function parseNumber(text: string, file: string, row: number): number {
  if (!numberShape.test(text)) throw new RangeError(`row ${row + 1} of ${file} holds a field that is no number`);
  return Number(text);
}

function checkClasses(file: string, targets: Float64Array, count: number): void {
  const seen = new Set(targets);
  for (let label = 0; label < count; label++) seen.delete(label);
  if (seen.size > 0 || new Set(targets).size !== count) throw new RangeError(`the classes of ${file} are not 0 to ${count - 1}`);
}
