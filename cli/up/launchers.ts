// Owns how a program is started by way of a common tool that makes way for it: the process keeps its pid.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const execute = promisify(execFile);

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

/** A tool and its arguments before the program's. */
export type Launcher = readonly [tool: string, ...before: string[]];

/** The program by way of the first of these tools that works here; undefined when none does. */
export async function launchedBy(launchers: readonly Launcher[], program: Program): Promise<Program | undefined> {
  for (const [tool, ...before] of launchers) {
    // An old or small one of that name may not know the option.
    const works = await execute(tool, [...before, "true"], { timeout: 5_000 }).then(
      () => true,
      () => false,
    );
    if (works) return { command: tool, args: [...before, program.command, ...program.args] };
  }
  return undefined;
}
