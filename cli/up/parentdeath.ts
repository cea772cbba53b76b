// Owns how a process that is not ours is made to die with its supervisor, even when that is killed: the kernel is asked to,
// by whichever common tool is there to ask. Ours need none of it, since they watch their standard input.
import { type Launcher, launchedBy, type Program } from "./launchers.ts";

/** prctl(PR_SET_PDEATHSIG, SIGKILL), then the program in place of this one. */
const script = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])";

/** util-linux has the one, set-up needs the other. */
const launchers: readonly Launcher[] = [
  ["setpriv", "--pdeathsig", "KILL", "--"],
  ["python3", "-c", script],
];

/** The same program, that keeps its pid; as it is when no tool is there. */
export async function dyingWithParent(program: Program): Promise<Program> {
  return (await launchedBy(launchers, program)) ?? program;
}
