// Owns where the library's sources come from: two pinned Python wheels, unpacked once into the cache.
// The data sets ship with scikit-learn (BSD-3-Clause), the model that tells a file's type is magika (Apache-2.0).
import { unpackWheel, wheels } from "../setup/wheels.mjs";
import { magikaModelFile, magikaSourceConfigFile } from "./build.ts";
import { dataFiles } from "./datasets.ts";

export interface SourceFolders {
  readonly dataFolder: string;
  readonly magikaFolder: string;
}

/** Needs the package index the first time only. Blocks meanwhile. */
export function fetchSources(): SourceFolders {
  const members = (folder: string, files: readonly string[]): Record<string, string> =>
    Object.fromEntries(files.map((file) => [`${folder}/${file}`, file]));
  return {
    dataFolder: unpackWheel(wheels.scikitLearn, members("sklearn/datasets/data", dataFiles)),
    magikaFolder: unpackWheel(wheels.magika, members("magika/models/standard_v3_3", [magikaModelFile, magikaSourceConfigFile])),
  };
}
