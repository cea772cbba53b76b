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

export async function installPackages(dev) {
  const hash = lockHash();
  // Only development packages are missing: what is there stays in place, for it may be in use.
  const adding = dev && readStamp() === `${hash} runtime`;
  const args = adding ? ["install", "--no-save", "--include=dev"] : ["ci", dev ? "--include=dev" : "--omit=dev"];
  const quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"];
  const done = await runStep("npm", [...args, "--include=optional", ...quiet], {
    cwd: root,
    env: { ...process.env, PATH: pathOutside() },
  });
  if (done.code !== 0) throw new SetupError(explainNpm(done.output));
  if (!existsSync(pinnedNode()))
    throw new SetupError(`npm installed no pinned Node at ${pinnedNode()}: remove node_modules and start again.`);
  writeFileSync(stampFile, `${hash} ${dev ? "full" : "runtime"}`);
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
