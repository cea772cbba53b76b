// Owns `warmpath bench`: the benchmarks of a checkout, which are a program of their own.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { CommandError } from "./manage/failure.ts";

const entry = fileURLToPath(new URL("../bench/main.ts", import.meta.url));

export function addBench(program: Command, signal: AbortSignal, setExitCode: (code: number) => void): void {
  program
    .command("bench")
    .description("measure: one benchmark, or all of them for a report with plots")
    .usage("NAME | report [options]; --help lists them")
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .action(async (_options: unknown, command: Command) => {
      if (!existsSync(entry)) throw new CommandError("usage", "benchmarks are part of a checkout, and this is none");
      const child = spawn(process.execPath, [entry, ...command.args], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      child.once("error", reject);
      child.once("exit", (code) => resolve(code ?? 1));
      // It ends in order when its channel closes.
      signal.addEventListener("abort", () => child.disconnect(), { once: true });
      setExitCode(await promise);
    });
}
