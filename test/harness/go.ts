// Owns the building of Go programs that tests run; each module has its own go.mod with its hashes.
import { spawnSync } from "node:child_process";
import { run } from "./kept.ts";

/** As Go tells it; undefined where there is none. */
export function goVersion(): string | undefined {
  const { status, stdout } = spawnSync("go", ["version"], { encoding: "utf8" });
  return status === 0 ? stdout : undefined;
}

/** Go itself gives a module up at the first answer that fails. What was fetched and built before is kept for the next try. */
const maxTries = 3;

/** `args`: flags, output and package, as `go build` takes them. */
export async function goBuild(module: string, args: readonly string[]): Promise<void> {
  const env = { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" };
  for (let tries = 1; ; tries++) {
    try {
      await run("go", ["build", "-trimpath", ...args], { cwd: module, env });
      return;
    } catch (error) {
      if (tries === maxTries) throw error;
    }
  }
}
