// Owns container images without a registry: a root folder becomes the archive that `ctr images import` takes. Layers are
// kept in the cache by the content of what they are made of.
import { createHash } from "node:crypto";
import {
  createReadStream,
  createWriteStream,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { pipeline } from "node:stream/promises";
import { type Pack, pack } from "tar-stream";
import { runCommand } from "./kubectl.ts";

export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly env?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
}

/** A file or folder of this machine and where it lies in the image; what the filter refuses is left out. */
export interface Part {
  readonly from: string;
  readonly to: string;
  readonly filter?: (path: string) => boolean;
  /** Files keep their times: what was compiled from them stays valid. They are of 1970 otherwise. */
  readonly keepsTimes?: boolean;
}

/** A text that is a file of the image. */
export interface TextFile {
  readonly to: string;
  readonly text: string;
  readonly mode?: number;
}

export interface Layer {
  readonly parts: readonly Part[];
  readonly texts?: readonly TextFile[];
  /** Empty folders with their modes. */
  readonly folders?: readonly { readonly to: string; readonly mode: number }[];
}

/** Writes `FOLDER/NAME.tar`. Layers are written beside it first. */
export async function buildImage(
  folder: string,
  reference: string,
  layers: readonly Layer[],
  config: ImageConfig,
): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const made: { readonly file: string; readonly digest: string; readonly size: number }[] = [];
  for (const [at, layer] of layers.entries()) {
    const file = join(folder, `layer-${at}.tar`);
    await writeLayer(file, layer);
    made.push({ file, digest: await digestOf(file), size: lstatSync(file).size });
  }
  const configText = JSON.stringify({
    architecture: "amd64",
    os: "linux",
    created: "1970-01-01T00:00:00Z",
    config: {
      Env: ["PATH=/usr/local/bin:/usr/bin:/bin", ...(config.env ?? [])],
      Entrypoint: config.entrypoint,
      WorkingDir: config.workdir ?? "/",
      User: config.user ?? "",
    },
    rootfs: { type: "layers", diff_ids: made.map(({ digest }) => `sha256:${digest}`) },
    history: made.map(() => ({ created: "1970-01-01T00:00:00Z" })),
  });
  const configName = `${createHash("sha256").update(configText).digest("hex")}.json`;
  const manifest = [{ Config: configName, RepoTags: [reference], Layers: made.map(({ digest }) => `${digest}/layer.tar`) }];
  const archive = join(folder, "image.tar");
  const tar = pack();
  const writing = pipeline(tar, createWriteStream(archive));
  await addText(tar, configName, configText);
  for (const { file, digest, size } of made) await addStream(tar, `${digest}/layer.tar`, size, file);
  await addText(tar, "manifest.json", JSON.stringify(manifest));
  tar.finalize();
  await writing;
  return archive;
}

async function writeLayer(file: string, layer: Layer): Promise<void> {
  const tar = pack();
  const writing = pipeline(tar, createWriteStream(file));
  for (const { to, mode } of layer.folders ?? [])
    await addEntry(tar, { name: `${to.replace(/^\//, "")}/`, type: "directory", mode });
  for (const { to, text, mode } of layer.texts ?? []) await addText(tar, to.replace(/^\//, ""), text, mode);
  for (const part of layer.parts) await addPart(tar, part);
  tar.finalize();
  await writing;
}

async function addPart(tar: Pack, { from, to, filter = () => true, keepsTimes = false }: Part): Promise<void> {
  const root = realpathSync(from);
  const visit = async (path: string): Promise<void> => {
    const below = relative(root, path);
    if (below !== "" && !filter(below)) return;
    const name = join(to.replace(/^\//, ""), below);
    const stat = lstatSync(path);
    const mode = stat.mode & 0o777;
    if (stat.isSymbolicLink()) await addEntry(tar, { name, type: "symlink", linkname: readlinkSync(path), mode });
    else if (stat.isDirectory()) {
      await addEntry(tar, { name: `${name}/`, type: "directory", mode: mode | 0o555 });
      for (const child of readdirSync(path).sort()) await visit(join(path, child));
    } else if (stat.isFile()) await addStream(tar, name, stat.size, path, mode | 0o444, keepsTimes ? stat.mtime : new Date(0));
  };
  await visit(root);
}

async function addEntry(
  tar: Pack,
  header: { readonly name: string; readonly type: "directory" | "symlink"; readonly linkname?: string; readonly mode: number },
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  tar.entry({ ...header, mtime: new Date(0) }, (error) => (error ? reject(error) : resolve()));
  await promise;
}

async function addText(tar: Pack, name: string, text: string, mode = 0o644): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  tar.entry({ name, mode, mtime: new Date(0) }, text, (error) => (error ? reject(error) : resolve()));
  await promise;
}

async function addStream(tar: Pack, name: string, size: number, file: string, mode = 0o644, mtime = new Date(0)): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const entry = tar.entry({ name, size, mode, mtime }, (error) => (error ? reject(error) : resolve()));
  await pipeline(createReadStream(file), entry);
  await promise;
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

/** The dynamic linker and the libraries that a program of this machine needs, as parts of an image. */
export async function librariesOf(programs: readonly string[]): Promise<readonly Part[]> {
  const { stdout } = await runCommand("ldd", programs);
  const found = new Set(Array.from(stdout.matchAll(/(\/[^\s:]+)(?= \(0x)/g), ([, path = ""]) => path));
  // What a program brings itself lies beside it.
  const brought = programs.map((program) => dirname(program));
  const missing = [...found].filter((path) => !brought.includes(dirname(path)));
  return missing.sort().map((path) => ({ from: path, to: path }));
}

/** Of a file, for keys of what is made from it. */
export function hashFile(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
