// Owns what kind of model each data set gets, its numbers, and the list of all models of the library.
// The three classifiers of few columns are linear discriminants (Fisher, "The use of multiple measurements in taxonomic
// problems", 1936), diabetes is a ridge regression, digits a random vector functional-link network: ridge regression on
// the pixels and a fixed random hidden layer (Pao, Park, Sobajic, Neurocomputing 6(2), 1994).
import { createHash } from "node:crypto";
import { type DatasetName, datasetNames } from "./datasets.ts";

export interface LinearRecipe {
  readonly kind: "discriminant" | "regression";
  readonly featureCount: number;
  readonly outputCount: number;
  /** Added to the diagonal in units of a standardised column's variance. */
  readonly penalty: number;
}

export interface NetworkRecipe {
  readonly kind: "network";
  readonly featureCount: number;
  readonly hiddenCount: number;
  readonly outputCount: number;
  readonly penalty: number;
}

export type Recipe = LinearRecipe | NetworkRecipe;

export const recipes = {
  iris: { kind: "discriminant", featureCount: 4, outputCount: 3, penalty: 1e-3 },
  wine: { kind: "discriminant", featureCount: 13, outputCount: 3, penalty: 1e-2 },
  cancer: { kind: "discriminant", featureCount: 30, outputCount: 2, penalty: 1e-2 },
  diabetes: { kind: "regression", featureCount: 10, outputCount: 1, penalty: 1e-2 },
  digits: { kind: "network", featureCount: 64, hiddenCount: 64, outputCount: 10, penalty: 1e-3 },
} as const satisfies Record<DatasetName, Recipe>;

/** One model trained here. */
export interface TenantModel {
  readonly name: string;
  readonly dataset: DatasetName;
  /** From 0; the name counts from 1. */
  readonly tenant: number;
}

/** The model that is shipped whole: it tells a file's type. */
export const magikaName = "magika";

/** Digits has one tenant less, which makes room for magika among 10,000. */
export const tenantCounts: Readonly<Record<DatasetName, number>> = {
  iris: 2_000,
  wine: 2_000,
  cancer: 2_000,
  diabetes: 2_000,
  digits: 1_999,
};

/** In the order of the parameter file; magika is not among them. */
export function listTenantModels(counts: Readonly<Record<DatasetName, number>> = tenantCounts): readonly TenantModel[] {
  return datasetNames.flatMap((dataset) =>
    Array.from({ length: counts[dataset] }, (_, tenant) => ({
      name: `${dataset}-t${String(tenant + 1).padStart(4, "0")}`,
      dataset,
      tenant,
    })),
  );
}

/** Numbers in a model's parameters. */
export function parameterCount(recipe: Recipe): number {
  const { featureCount, outputCount } = recipe;
  return recipe.kind === "network"
    ? (featureCount + recipe.hiddenCount + 1) * outputCount
    : 2 * featureCount + (featureCount + 1) * outputCount;
}

/** Raised whenever the same sources shall give other models; recipes count by themselves. */
const generatorVersion = 1;

/** Names what buildLibrary makes: the same key, the same bytes. */
export function contentKey(sources: readonly Uint8Array[], counts: Readonly<Record<DatasetName, number>>): string {
  const hash = createHash("sha256").update(JSON.stringify({ generatorVersion, recipes, counts }));
  for (const source of sources) hash.update(createHash("sha256").update(source).digest());
  return hash.digest("hex");
}
