// Owns what tests install once and keep in the cache: made under a lock, marked when complete.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { holdLock } from "../../cli/setup/lock.mjs";
import { cacheFolder } from "../../cli/setup/wheels.mjs";

/** A folder that `make` has filled; another one for other content. */
export async function keep(name: string, content: string | Buffer, make: (folder: string) => Promise<void>): Promise<string> {
  const key = createHash("sha256").update(content).digest("hex").slice(0, 16);
  const folder = join(cacheFolder(), `${name}-${key}`);
  const done = join(folder, ".complete");
  if (existsSync(done)) return folder;
  // Test files run beside each other.
  const lock = await holdLock(() => undefined, join(cacheFolder(), `lock-${name}`));
  try {
    if (existsSync(done)) return folder;
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    await make(folder);
    writeFileSync(done, "");
    return folder;
  } finally {
    lock.release();
  }
}

export interface RunOptions {
  readonly cwd?: string;
  /** Added to this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** What it printed counts, however it ended. */
  readonly mayFail?: boolean;
}

/** What it printed. Throws with its complaints when it fails. */
export async function run(
  command: string,
  args: readonly string[],
  { cwd, env = {}, mayFail = false }: RunOptions = {},
): Promise<string> {
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, PYTHONWARNINGS: "ignore", ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  const [code] = await once(child, "close");
  if (code !== 0 && !mayFail) throw new Error(`${command} ${args.join(" ")} ended with ${code}: ${errors.slice(-2_000)}`);
  if (mayFail && output === "") throw new Error(`${command} ${args.join(" ")} said nothing: ${errors.slice(-2_000)}`);
  return output;
}
