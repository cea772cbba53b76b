// The warmpath command line, also as a plug-in of kubectl. Whatever a user gets wrong is one line, never a stack trace.
import { CommanderError } from "commander";
import { hasParentFlag, runMain } from "#platform/lifecycle.ts";
import { CommandError, exitCodes } from "./manage/failure.ts";
import { buildProgram } from "./program.ts";

const fallbackWidth = 160;

await runMain(
  "warmpath",
  async (signal, stack) => {
    let exitCode = 0;
    const program = buildProgram({
      env: process.env,
      isTerminal: process.stdout.isTTY,
      width: process.stdout.columns ?? fallbackWidth,
      print: (text) => void process.stdout.write(`${text}\n`),
      progress: wantsProgress() ? (line) => void process.stderr.write(`\r\u001B[K${line}`) : undefined,
      signal,
      stack,
      setExitCode: (code) => {
        exitCode = code;
      },
    });
    // `warmpath ... | head` closes the pipe: that is no failure of ours.
    process.stdout.on("error", () => process.exit(0));
    try {
      await program.parseAsync(process.argv);
    } catch (error) {
      if (error instanceof CommandError) return fail(error.message, error.exitCode);
      // commander throws to end the program; what was asked for was printed, anything else is a mistake to name.
      if (!(error instanceof CommanderError)) throw error;
      if (error.code === "commander.helpDisplayed" || error.code === "commander.version") return 0;
      // Help because a command is missing: it was printed.
      if (error.code === "commander.help") return exitCodes.usage.code;
      return fail(error.message.replace(/^error: /, ""), exitCodes.usage.code);
    }
    return exitCode;
  },
  { stopDeadlineMs: 20_000, exitWithParent: hasParentFlag(process.argv) },
);

function wantsProgress(): boolean {
  return process.stderr.isTTY && process.env["TERM"] !== "dumb" && !process.argv.includes("--json");
}

function fail(message: string, code: number): number {
  process.stderr.write(`warmpath: ${message}\n`);
  return code;
}
