// Owns the building of Go programs that tests run; each module has its own go.mod with its hashes.
import { spawnSync } from "node:child_process";
import { run } from "./kept.ts";

/** As Go tells it; undefined where there is none. */
export function goVersion(): string | undefined {
  const { status, stdout } = spawnSync("go", ["version"], { encoding: "utf8" });
  return status === 0 ? stdout : undefined;
}

/** `args`: flags, output and package, as `go build` takes them. */
export async function goBuild(module: string, args: readonly string[]): Promise<void> {
  await run("go", ["build", "-trimpath", ...args], { cwd: module, env: { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" } });
}
