// Owns node_modules: installed from the lock file, stamped with what it holds, and the pinned Node inside it.
// An install with development packages serves commands that do not need them.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { runStep } from "./child.mjs";
import { SetupError } from "./errors.mjs";
import { root } from "./root.mjs";

const stampFile = join(root, "node_modules", ".warmpath-installed");

/** @param {boolean} dev */
export function packagesAreThere(dev) {
  return stampServes(readStamp(), lockHash(), dev) && existsSync(pinnedNode());
}

/** Whether what the stamp tells is enough. */
export function stampServes(stamp, hash, dev) {
  return stamp === `${hash} full` || (!dev && stamp === `${hash} runtime`);
}

/**
 * Not `npm ci`: it refuses to run where the registry does not carry the optional packages of foreign platforms, and it
 * takes everything away first, though it may be in use. What came is compared with the lock file instead.
 */
export async function installPackages(dev) {
  const hash = lockHash();
  const kind = dev ? "--include=dev" : "--omit=dev";
  const args = [
    "install",
    "--no-save",
    kind,
    "--include=optional",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-progress",
    "--loglevel=error",
  ];
  const done = await runStep("npm", args, { cwd: root, env: { ...process.env, PATH: pathOutside() } });
  if (done.code !== 0) throw new SetupError(explainNpm(done.output));
  const stray = findStray(
    readPackages(join(root, "package-lock.json")),
    readPackages(join(root, "node_modules", ".package-lock.json")),
  );
  if (stray !== undefined)
    throw new SetupError(
      `npm installed ${stray}, which package-lock.json does not name: restore package-lock.json, remove node_modules and start again.`,
    );
  if (!existsSync(pinnedNode()))
    throw new SetupError(`npm installed no pinned Node at ${pinnedNode()}: remove node_modules and start again.`);
  writeFileSync(stampFile, `${hash} ${dev ? "full" : "runtime"}`);
}

/** The first package that is not the locked one. */
export function findStray(locked, installed) {
  const stray = Object.entries(installed).find(
    ([path, { version, integrity }]) => locked[path]?.version !== version || locked[path]?.integrity !== integrity,
  );
  return stray === undefined ? undefined : `${stray[0].replace(/^.*node_modules\//, "")} ${stray[1].version}`;
}

function readPackages(file) {
  return JSON.parse(readFileSync(file, "utf8")).packages;
}

/** The Node that runs everything but set-up. */
export function pinnedNode() {
  return join(root, "node_modules", `node-linux-${process.arch}`, "bin", "node");
}

function lockHash() {
  return createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
}

function readStamp() {
  try {
    return readFileSync(stampFile, "utf8");
  } catch {
    return undefined;
  }
}

/** npm puts node_modules/.bin on the path, and with it a `node` that it is about to replace. */
function pathOutside() {
  const inside = join(root, "node_modules");
  return (process.env.PATH ?? "")
    .split(delimiter)
    .filter((folder) => !folder.startsWith(inside))
    .join(delimiter);
}

function explainNpm(output) {
  const said = output
    .split("\n")
    .filter((line) => /^npm (error|ERR!) /.test(line) && !line.includes("complete log"))
    .slice(0, 3)
    .join("\n  ");
  return `npm could not install the packages. Is the package registry reachable, and is there room on the disk? npm said:\n  ${said || output.trim().slice(-500)}`;
}
