// The warmpath command line.
import { Command } from "commander";
import { hasParentFlag, runMain, StartupError } from "#platform/lifecycle.ts";
import { addMigrate } from "./migrate/command.ts";
import { addServices } from "./services/command.ts";
import { addUp } from "./up/command.ts";

const program = new Command("warmpath")
  .description(
    "Serves far more models than fit in memory: the ones in use stay warm, a cold one is loaded while its request waits.",
  )
  .helpOption("-h, --help", "say this")
  .showHelpAfterError(false)
  .exitOverride()
  .configureOutput({ outputError: () => undefined });

await runMain(
  "warmpath",
  async (signal, stack) => {
    let exitCode = 0;
    addUp(program, signal, stack, (code) => {
      exitCode = code;
    });
    addServices(program, signal, stack);
    addMigrate(program, (code) => {
      exitCode = code;
    });
    try {
      await program.parseAsync(process.argv);
    } catch (error) {
      // commander throws to end the program; help was asked for and printed, anything else is a mistake to name.
      if (!(error instanceof Error) || !("code" in error) || !String(error.code).startsWith("commander.")) throw error;
      if (error.code === "commander.helpDisplayed" || error.code === "commander.help") return 0;
      throw new StartupError(error.message.replace(/^error: /, ""), { cause: error });
    }
    return exitCode;
  },
  { stopDeadlineMs: 20_000, exitWithParent: hasParentFlag(process.argv) },
);
