// Owns which commands there are. What a command needs beyond its words is loaded when it runs, so that all of them start at once.
import { Command } from "commander";
import { addBench } from "./bench.ts";
import { addCompletion } from "./manage/completion.ts";
import type { Terminal } from "./manage/context.ts";
import { addDoctor } from "./manage/doctor.ts";
import { addExplain } from "./manage/explain.ts";
import { addModels } from "./manage/models.ts";
import { addPods } from "./manage/pods.ts";
import { addRevisions } from "./manage/revisions.ts";
import { addTop } from "./manage/top.ts";
import { addTrace } from "./manage/trace.ts";
import { addMigrate } from "./migrate/command.ts";
import { addServices } from "./services/command.ts";
import { addUp } from "./up/command.ts";
import { ownVersion } from "./version.ts";

export function buildProgram(terminal: Terminal): Command {
  const program = new Command("warmpath")
    .description(
      "Serves far more models than fit in memory: the ones in use stay warm, a cold one is loaded while its request waits.",
    )
    .version(ownVersion(), "-V, --version", "say which version this is")
    .helpOption("-h, --help", "say this")
    .showHelpAfterError(false);
  addUp(program, terminal.signal, terminal.stack, terminal.setExitCode);
  addServices(program, terminal.signal, terminal.stack);
  addMigrate(program, terminal.setExitCode);
  addModels(program, terminal);
  addRevisions(program, terminal);
  addPods(program, terminal);
  addExplain(program, terminal);
  addTop(program, terminal);
  addTrace(program, terminal);
  addBench(program, terminal.signal, terminal.setExitCode);
  addDoctor(program, terminal);
  addCompletion(program, terminal.print);
  for (const command of walk(program)) {
    command
      .exitOverride()
      .configureOutput({ outputError: () => undefined })
      .helpCommand(false);
  }
  return program;
}

function* walk(command: Command): Generator<Command, void> {
  yield command;
  for (const child of command.commands) yield* walk(child);
}
