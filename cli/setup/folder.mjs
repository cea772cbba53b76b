// Owns how a folder is made, with those above it.
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

/**
 * As mkdir -p. Node's own way never ends in a file system that says of a folder which is there that it is not, as /proc does.
 * @param {string} folder
 * @param {number} [mode]
 */
export function makeFolder(folder, mode) {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (found?.isDirectory()) return;
  if (found !== undefined) throw Object.assign(new Error(`${folder} is no folder`), { code: "ENOTDIR" });
  makeFolder(dirname(folder), mode);
  try {
    mkdirSync(folder, { mode });
  } catch (error) {
    // Somebody else made it at the same time.
    if (error.code !== "EEXIST") throw error;
  }
}
