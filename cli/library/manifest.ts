// Owns the library's folder: where everything lies in it, and the manifest that says what is there.
// Invariant: the manifest is written last and in one step, so a folder with a manifest is whole.
//   manifest.json                    this
//   models/<data set>/<name>.onnx    one file per model; models/magika/magika.onnx
//   parameters.f32                   all tenants' parameters, for the oracle
//   data/                            the data sets as shipped, and magika's own configuration
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { datasetNames } from "./datasets.ts";

export const manifestFile = "manifest.json";
export const parameterFile = "parameters.f32";
export const dataFolderName = "data";
export const modelsFolderName = "models";
export const magikaConfigFile = "magika.json";

const libraryModel = z.object({
  name: z.string().min(1),
  dataset: z.enum([...datasetNames, "magika"]),
  /** Relative to the library's folder. */
  file: z.string().min(1),
  format: z.literal("onnx"),
  bytes: z.int().positive(),
  sha256: z.string().length(64),
});

const libraryManifest = z.object({
  version: z.literal(1),
  /** The same key, the same bytes. */
  contentKey: z.string().length(64),
  /** How many tenants each data set has, in the order of the parameter file. */
  tenants: z.record(z.enum(datasetNames), z.int().nonnegative()),
  models: z.array(libraryModel),
});

export type LibraryModel = Readonly<z.infer<typeof libraryModel>>;
export type LibraryManifest = Readonly<Omit<z.infer<typeof libraryManifest>, "models">> & {
  readonly models: readonly LibraryModel[];
};

/** undefined when the folder holds no whole library of this version. */
export async function findManifest(folder: string): Promise<LibraryManifest | undefined> {
  let text: string;
  try {
    text = await readFile(join(folder, manifestFile), "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) return undefined;
    throw error;
  }
  return parseManifest(text);
}

/** Throws an Error that says what to do when there is none. */
export async function readManifest(folder: string): Promise<LibraryManifest> {
  const manifest = await findManifest(folder);
  if (manifest === undefined) throw new Error(`${folder} holds no whole model library: build it with cli/library/main.ts`);
  return manifest;
}

export async function writeManifest(folder: string, manifest: LibraryManifest): Promise<void> {
  const path = join(folder, manifestFile);
  await writeFile(`${path}.part`, `${JSON.stringify(manifest)}\n`);
  await rename(`${path}.part`, path);
}

function parseManifest(text: string): LibraryManifest | undefined {
  try {
    return libraryManifest.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
