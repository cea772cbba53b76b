// Owns how a process that is not ours is made to die with its supervisor, even when that is killed: the kernel is asked to,
// by whichever common tool is there to ask. Ours need none of it, since they watch their standard input.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** prctl(PR_SET_PDEATHSIG, SIGKILL), then the program in place of this one. */
const script = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])";

/** util-linux has the one, set-up needs the other. */
const tools: readonly (readonly [string, ...string[]])[] = [
  ["setpriv", "--pdeathsig", "KILL", "--"],
  ["python3", "-c", script],
];

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

/** The same program, that keeps its pid; as it is when no tool is there. */
export async function dyingWithParent(program: Program): Promise<Program> {
  for (const [tool, ...before] of tools) {
    // An old or small one of that name may not know the option.
    const works = await execute(tool, [...before, "true"], { timeout: 5_000 }).then(
      () => true,
      () => false,
    );
    if (works) return { command: tool, args: [...before, program.command, ...program.args] };
  }
  return program;
}
