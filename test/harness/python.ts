// Owns the Python environments of tests: each made once from pinned requirements, kept in the cache.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { findPython } from "../../cli/setup/wheels.mjs";
import { keep, run } from "./kept.ts";

/** Wheels alone, whose hashes are pinned: nothing of a package runs before a test imports it. */
const install = "-m pip install --quiet --disable-pip-version-check --no-input --require-hashes --only-binary :all:".split(" ");

/** The interpreter of an environment with these requirements. Installing them takes a minute or two, once. */
export async function environmentPython(name: string, requirements: string): Promise<string> {
  const folder = await keep(name, readFileSync(requirements), async (into) => {
    await run(findPython(), ["-m", "venv", into]);
    await run(join(into, "bin", "python"), [...install, "--requirement", requirements]);
  });
  return join(folder, "bin", "python");
}

/** A folder with the packages that are named in the requirements, and none that they ask for. */
export async function packagesFolder(name: string, requirements: string): Promise<string> {
  return await keep(name, readFileSync(requirements), async (into) => {
    await run(findPython(), [...install, "--no-deps", "--target", into, "--requirement", requirements]);
  });
}

/** A folder that a script makes of the environment's libraries, once. */
export async function scriptFolder(name: string, python: string, script: string): Promise<string> {
  return await keep(name, readFileSync(script), async (into) => {
    await run(python, [script, into]);
  });
}
