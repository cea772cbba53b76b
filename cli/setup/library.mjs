// Owns the model library's place in the cache: a folder keyed by the sources that make it, complete when it exists.
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runStep } from "./child.mjs";
import { SetupError } from "./errors.mjs";
import { pinnedNode } from "./packages.mjs";
import { root } from "./root.mjs";
import { cacheFolder, openCache } from "./wheels.mjs";

const made = join(root, "cli", "library");

export function libraryFolder() {
  const hash = createHash("sha256");
  const sources = readdirSync(made, { recursive: true }).filter(
    (name) => /\.(ts|mjs|py|json)$/.test(name) && !/\.test\./.test(name),
  );
  for (const file of [
    ...sources.sort((a, b) => (a < b ? -1 : 1)).map((name) => join(made, name)),
    join(root, "cli", "setup", "wheels.mjs"),
  ]) {
    hash.update(file.slice(root.length)).update(readFileSync(file));
  }
  return join(cacheFolder(), `library-${hash.digest("hex").slice(0, 16)}`);
}

export function libraryIsThere(folder) {
  return existsSync(folder);
}

/** @param {(share: number) => void} report */
export async function buildLibrary(folder, report) {
  openCache();
  const work = mkdtempSync(join(cacheFolder(), "part-"));
  try {
    const out = join(work, "library");
    const onLine = (line) => {
      const found = /(\d[\d,]*)\s*(?:\/|of)\s*(\d[\d,]*)/.exec(line);
      if (found !== null) report(Number(found[1].replaceAll(",", "")) / Number(found[2].replaceAll(",", "")));
    };
    const done = await runStep(pinnedNode(), [join(made, "main.ts"), "--out", out], {}, onLine);
    if (done.code !== 0)
      throw new SetupError(`The model library could not be built:\n  ${done.output.trim().split("\n").slice(-5).join("\n  ")}`);
    renameInto(out, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Another checkout may have put the same library there first. */
function renameInto(from, to) {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!existsSync(to)) throw error;
  }
}
