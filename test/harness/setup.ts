// Owns where tests find Envoy and the model library: where the environment says, else where set-up puts them.
import { join } from "node:path";
import { buildLibrary as buildTenants } from "#cli/library/build.ts";
import { fetchSources } from "#cli/library/sources.ts";
import { envoyBinary, envoyIsThere, fetchEnvoy } from "../../cli/setup/envoy.mjs";
import { buildLibrary, libraryFolder, libraryIsThere } from "../../cli/setup/library.mjs";

export async function findEnvoy(): Promise<string> {
  const named = process.env["WARMPATH_ENVOY"];
  if (named !== undefined) return named;
  if (!envoyIsThere()) await fetchEnvoy();
  return envoyBinary();
}

/** The whole library, shared by everything on this machine: nothing may be written there. */
export async function findLibrary(): Promise<string> {
  const named = process.env["WARMPATH_LIBRARY"];
  if (named !== undefined) return named;
  const folder = libraryFolder();
  if (!libraryIsThere(folder)) await buildLibrary(folder, () => undefined);
  return folder;
}

/** A library of a few models in a folder of the caller's own, where it may put more files. */
export async function buildSmallLibrary(parent: string, tenantsOfEach = 3): Promise<string> {
  const folder = join(parent, "library");
  const n = tenantsOfEach;
  await buildTenants({
    ...fetchSources(),
    outFolder: folder,
    tenants: { iris: n, wine: n, cancer: n, diabetes: n, digits: n },
  });
  return folder;
}
