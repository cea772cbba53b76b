// Owns making the library: trains every tenant's model and writes it down beside magika's.
// Invariants: the same sources give the same bytes in every file; a folder that has a manifest is never touched unless
// its content key is another one, and then loses its manifest first; at most `writesAtOnce` files are open.
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type DatasetName, dataFiles, datasetNames, readDatasets } from "./datasets.ts";
import {
  dataFolderName,
  findManifest,
  type LibraryManifest,
  type LibraryModel,
  magikaConfigFile,
  manifestFile,
  modelsFolderName,
  parameterFile,
  writeManifest,
} from "./manifest.ts";
import { buildOnnx } from "./onnx.ts";
import { contentKey, listTenantModels, magikaName, recipes, type TenantModel, tenantCounts } from "./recipes.ts";
import { createTrainer, type Trainer } from "./train.ts";

export interface BuildOptions {
  /** Holds the files of scikit-learn's data sets. */
  readonly dataFolder: string;
  /** Holds magika's model.onnx and config.min.json. */
  readonly magikaFolder: string;
  readonly outFolder: string;
  /** Fewer tenants, for tests. */
  readonly tenants?: Readonly<Record<DatasetName, number>>;
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

export interface BuildResult {
  readonly manifest: LibraryManifest;
  /** False when the same library was there already. */
  readonly built: boolean;
}

/** magika's files under the names that they have in its package. */
export const magikaModelFile = "model.onnx";
export const magikaSourceConfigFile = "config.min.json";

const writesAtOnce = 32;

export async function buildLibrary(options: BuildOptions): Promise<BuildResult> {
  const { dataFolder, magikaFolder, outFolder, signal, tenants = tenantCounts } = options;
  const sources = await readSources(dataFolder, magikaFolder);
  const key = contentKey([...sources.data.values(), sources.magika, sources.magikaConfig], tenants);
  const found = await findManifest(outFolder);
  if (found?.contentKey === key) return { manifest: found, built: false };

  await rm(join(outFolder, manifestFile), { force: true });
  await rm(join(outFolder, modelsFolderName), { recursive: true, force: true });
  const folders = [dataFolderName, ...[...datasetNames, magikaName].map((name) => join(modelsFolderName, name))];
  for (const folder of folders) await mkdir(join(outFolder, folder), { recursive: true });

  const datasets = await readDatasets(dataFolder);
  const list = listTenantModels(tenants);
  const total = list.length + 1;
  const writer = createWriter(outFolder, signal);
  const models: LibraryModel[] = [];
  const parameters: Float32Array<ArrayBuffer>[] = [];
  let trainer: Trainer | undefined;
  for (const model of list) {
    if (trainer?.dataset.name !== model.dataset) trainer = createTrainer(datasets[model.dataset], tenants[model.dataset]);
    const trained = trainer.train(model.tenant);
    const bytes = buildOnnx(model.name, recipes[model.dataset], trained);
    const entry = describe(model, bytes);
    await writer.write(entry.file, bytes);
    models.push(entry);
    parameters.push(trained);
    options.onProgress?.(models.length, total);
  }
  const magika = describe({ name: magikaName, dataset: magikaName }, sources.magika);
  models.push(magika);
  await writer.write(magika.file, sources.magika);
  for (const [file, bytes] of sources.data) await writer.write(join(dataFolderName, file), bytes);
  await writer.write(join(dataFolderName, magikaConfigFile), sources.magikaConfig);
  await writer.write(parameterFile, Buffer.concat(parameters.map(({ buffer }) => new Uint8Array(buffer))));
  await writer.end();
  signal?.throwIfAborted();
  const manifest: LibraryManifest = { version: 1, contentKey: key, tenants, models };
  await writeManifest(outFolder, manifest);
  options.onProgress?.(total, total);
  return { manifest, built: true };
}

interface Sources {
  readonly data: ReadonlyMap<string, Uint8Array>;
  readonly magika: Uint8Array;
  readonly magikaConfig: Uint8Array;
}

async function readSources(dataFolder: string, magikaFolder: string): Promise<Sources> {
  const data = new Map<string, Uint8Array>();
  for (const file of dataFiles) data.set(file, await readFile(join(dataFolder, file)));
  return {
    data,
    magika: await readFile(join(magikaFolder, magikaModelFile)),
    magikaConfig: await readFile(join(magikaFolder, magikaSourceConfigFile)),
  };
}

function describe(model: Pick<TenantModel, "name"> & Pick<LibraryModel, "dataset">, bytes: Uint8Array): LibraryModel {
  const { name, dataset } = model;
  return {
    name,
    dataset,
    file: `${modelsFolderName}/${dataset}/${name}.onnx`,
    format: "onnx",
    bytes: bytes.byteLength,
    sha256: createHash("sha256").update(bytes).digest("hex"),
  };
}

interface Writer {
  /** Resolves when there is room for the next file, not when this one is written; rejects once any write has failed. */
  write(file: string, bytes: Uint8Array): Promise<void>;
  /** Resolves when everything is written. */
  end(): Promise<void>;
}

function createWriter(folder: string, signal: AbortSignal | undefined): Writer {
  const underWay = new Set<Promise<void>>();
  return {
    async write(file, bytes) {
      signal?.throwIfAborted();
      const writing = writeFile(join(folder, file), bytes).finally(() => underWay.delete(writing));
      underWay.add(writing);
      // The failure is met by the race or by end(); until then nobody waits for this promise.
      writing.catch(() => undefined);
      if (underWay.size >= writesAtOnce) await Promise.race(underWay);
    },
    async end() {
      await Promise.all(underWay);
    },
  };
}
