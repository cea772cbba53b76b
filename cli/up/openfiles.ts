// Owns how many open files a process that is not ours has room for from its start.
import { readFile } from "node:fs/promises";
import { type Launcher, launchedBy, type Program } from "./launchers.ts";

/**
 * The same program, with the same pid, whose table of open files has room for so many, or as many as it may have; as it is when
 * no tool is there. Linux doubles the table of a process with several threads only when none of the others looks at it, and for
 * that stops all that open or close a file: 10 to 20 ms each time, in which an Envoy answers nobody.
 */
export async function withRoomForFiles(program: Program, files: number): Promise<Program> {
  const last = Math.min(files, await mostFiles()) - 1;
  return (await launchedBy(launchersUpTo(last), program)) ?? program;
}

/** A table keeps its size when the file with the highest number is closed, and when another program takes over the process. */
function launchersUpTo(file: number): readonly Launcher[] {
  return [
    ["bash", "-c", `exec ${file}</dev/null ${file}<&-; exec "$@"`, "bash"],
    ["python3", "-c", `import os, sys; os.close(os.dup2(0, ${file})); os.execvp(sys.argv[1], sys.argv[1:])`],
  ];
}

/** Of this process and those that it starts. */
async function mostFiles(): Promise<number> {
  const [, most] = /^Max open files\s+(\d+)/m.exec(await readFile("/proc/self/limits", "utf8")) ?? [];
  return most === undefined ? Number.MAX_SAFE_INTEGER : Number(most);
}
