// Owns the state folder of `warmpath up`: the embedded registry and the logs, held by one run at a time.
import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Model } from "#core/model.ts";
import { parseModel } from "#core/model.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { putModels } from "#platform/registry/records.ts";
import type { RegistryTarget } from "#platform/registry/target.ts";
import { type LibraryManifest, readManifest } from "../library/manifest.ts";
import { makeFolder } from "../setup/folder.mjs";

export interface State {
  readonly registryFile: string;
  readonly logFolder: string;
  /** Of artefacts, one folder for each pod in it. */
  readonly cacheFolder: string;
}

const libraryKey = "/library";
const batch = 1_000;

/** Makes the folder and holds it for as long as the stack; a second run on it is refused. */
export async function openState(folder: string, stack: AsyncDisposableStack): Promise<State> {
  const logFolder = join(folder, "logs");
  try {
    makeFolder(logFolder, 0o700);
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
    throw new StartupError(`the state folder ${folder} cannot be made${reason}: choose another with --state`, { cause: error });
  }
  await holdFolder(realpathSync(folder), stack);
  return { registryFile: join(folder, "registry.db"), logFolder, cacheFolder: join(realpathSync(folder), "cache") };
}

/** An abstract socket is gone with its process, however that ends. */
async function holdFolder(folder: string, stack: AsyncDisposableStack): Promise<void> {
  const name = `warmpath-${createHash("sha256").update(folder).digest("hex").slice(0, 24)}`;
  const server = createServer((socket) => socket.destroy());
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", (cause) =>
    reject(new StartupError(`another warmpath runs on ${folder}: end it, or choose another folder with --state`, { cause })),
  );
  server.listen({ path: `\0${name}` }, resolve);
  await promise;
  server.unref();
  stack.defer(() => void server.close());
}

/** Registers every model of the library, unless this very library is registered already. Returns how many it has. */
export async function registerLibrary(target: RegistryTarget, libraryFolder: string): Promise<number> {
  const manifest = await readManifest(libraryFolder);
  await using registry = await openRegistry(target);
  const mark = JSON.stringify([libraryFolder, manifest.contentKey]);
  if ((await registry.get(libraryKey))?.value === mark) return manifest.models.length;
  const models = manifest.models.map((entry) => buildModel(entry, libraryFolder));
  for (let at = 0; at < models.length; at += batch) {
    const put = await putModels(registry, models.slice(at, at + batch));
    if (put.kind !== "ok") throw new Error(`the registry refused the library: ${put.kind}`);
  }
  await registry.put(libraryKey, mark);
  return models.length;
}

function buildModel(entry: LibraryManifest["models"][number], libraryFolder: string): Model {
  const storageUri = pathToFileURL(join(libraryFolder, entry.file)).href;
  const id = `r-${entry.sha256.slice(0, 12)}`;
  const parsed = parseModel({ name: entry.name, revisions: [{ id, slot: 0, format: entry.format, storageUri }], active: id });
  if (parsed.kind === "refused") throw new Error(`the library's model ${entry.name} is refused: ${parsed.reason}`);
  return parsed.model;
}
