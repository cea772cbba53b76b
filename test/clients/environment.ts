// Owns the Python environment of the stock clients: made once from pinned requirements, kept in the cache.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder, findPython } from "../../cli/setup/wheels.mjs";

const requirements = new URL("requirements.txt", import.meta.url).pathname;

/** The interpreter of an environment that has the clients. Installing them takes a minute or two, once. */
export async function clientPython(): Promise<string> {
  const key = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 16);
  const folder = join(cacheFolder(), `clients-${key}`);
  const done = join(folder, ".complete");
  if (!existsSync(done)) {
    mkdirSync(cacheFolder(), { recursive: true });
    // Scripts in an environment name its folder, so it is made where it stays; the mark comes last.
    rmSync(folder, { recursive: true, force: true });
    await run(findPython(), ["-m", "venv", folder]);
    await run(join(folder, "bin", "python"), [
      "-m",
      "pip",
      "install",
      "--quiet",
      "--disable-pip-version-check",
      "--requirement",
      requirements,
    ]);
    renameSync(mkdtempSync(join(cacheFolder(), "mark-")), done);
  }
  return join(folder, "bin", "python");
}

export interface CaseResult {
  readonly case: string;
  readonly ok: boolean;
  readonly saw: string | null;
}

/** Runs a script of cases and gives what it told of each. */
export async function runCases(python: string, script: string, args: readonly string[]): Promise<readonly CaseResult[]> {
  const output = await run(python, [new URL(script, import.meta.url).pathname, ...args], true);
  return output.split("\n").flatMap((line) => (line.startsWith('{"case"') ? [JSON.parse(line) as CaseResult] : []));
}

async function run(command: string, args: readonly string[], mayFail = false): Promise<string> {
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
