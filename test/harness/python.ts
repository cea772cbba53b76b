// Owns the Python environments of tests: each made once from pinned requirements, kept in the cache.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { holdLock } from "../../cli/setup/lock.mjs";
import { cacheFolder, findPython } from "../../cli/setup/wheels.mjs";

/** The interpreter of an environment with these requirements. Installing them takes a minute or two, once. */
export async function environmentPython(name: string, requirements: string): Promise<string> {
  const folder = await made(name, requirements, async (into) => {
    await run(findPython(), ["-m", "venv", into]);
    await run(join(into, "bin", "python"), [...install, "--requirement", requirements]);
  });
  return join(folder, "bin", "python");
}

/** A folder with the packages that are named in the requirements, and none that they ask for. */
export async function packagesFolder(name: string, requirements: string): Promise<string> {
  return await made(name, requirements, async (into) => {
    await run(findPython(), [...install, "--no-deps", "--target", into, "--requirement", requirements]);
  });
}

/** Wheels alone, whose hashes are pinned: nothing of a package runs before a test imports it. */
const install = "-m pip install --quiet --disable-pip-version-check --no-input --require-hashes --only-binary :all:".split(" ");

/** A folder that a script makes of the environment's libraries, once. */
export async function scriptFolder(name: string, python: string, script: string): Promise<string> {
  return await made(name, script, async (into) => {
    await run(python, [script, into]);
  });
}

async function made(name: string, madeOf: string, make: (folder: string) => Promise<void>): Promise<string> {
  const key = createHash("sha256").update(readFileSync(madeOf)).digest("hex").slice(0, 16);
  const folder = join(cacheFolder(), `${name}-${key}`);
  const done = join(folder, ".complete");
  if (existsSync(done)) return folder;
  // Test files run beside each other.
  const lock = await holdLock(() => undefined, join(cacheFolder(), `lock-${name}`));
  try {
    if (existsSync(done)) return folder;
    mkdirSync(cacheFolder(), { recursive: true });
    // Scripts in an environment name its folder, so it is made where it stays; the mark comes last.
    rmSync(folder, { recursive: true, force: true });
    await make(folder);
    writeFileSync(done, "");
    return folder;
  } finally {
    lock.release();
  }
}

/** What it printed. */
export async function run(command: string, args: readonly string[], mayFail = false): Promise<string> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PYTHONWARNINGS: "ignore" } });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  const [code] = await once(child, "close");
  if (code !== 0 && !mayFail) throw new Error(`${command} ${args.join(" ")} ended with ${code}: ${errors.slice(-2_000)}`);
  if (mayFail && output === "") throw new Error(`${command} ${args.join(" ")} said nothing: ${errors.slice(-2_000)}`);
  return output;
}
