// Owns that this process gets only processor time that nobody else wants.
import { mkdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { setPriority } from "node:os";
import { join } from "node:path";

const lowestPriority = 19;

/**
 * Attackers have machines of their own; this process is theirs, and on the fleet's machine it is to take nothing from others.
 * In a control group of its own that is idle it makes way at once for whoever wakes; where no such group can be made it has the
 * lowest priority, and others may wait to the end of its slice, some milliseconds. Ends with the stack.
 */
export async function takeLeftover(stack: AsyncDisposableStack): Promise<"idle group" | "lowest priority"> {
  const group = await makeIdleGroup(stack);
  if (group !== undefined) return "idle group";
  await setOwnPriority(lowestPriority);
  stack.defer(() => setOwnPriority(0));
  return "lowest priority";
}

async function makeIdleGroup(stack: AsyncDisposableStack): Promise<string | undefined> {
  const parent = await ownGroup();
  if (parent === undefined) return undefined;
  const folder = join(parent, `warmpath-abuse-${process.pid}`);
  try {
    await mkdir(folder);
  } catch {
    return undefined;
  }
  const leave = async (): Promise<void> => {
    await writeFile(join(parent, "cgroup.procs"), `${process.pid}`);
    // Others may be in it: whatever was started anew meanwhile.
    await rmdir(folder).catch(() => undefined);
  };
  try {
    await writeFile(join(folder, "cpu.idle"), "1");
    await writeFile(join(folder, "cgroup.procs"), `${process.pid}`);
  } catch {
    await leave().catch(() => undefined);
    return undefined;
  }
  stack.defer(leave);
  return folder;
}

/** Where this process is in the hierarchy that shares processors: of version 1, or the one of version 2. */
async function ownGroup(): Promise<string | undefined> {
  const lines = (await readFile("/proc/self/cgroup", "utf8").catch(() => "")).split("\n");
  for (const line of lines) {
    const [, controllers = "", ...path] = line.split(":");
    if (controllers.split(",").includes("cpu")) return join("/sys/fs/cgroup", controllers, path.join(":"));
  }
  const unified = lines.find((line) => line.startsWith("0::"));
  return unified === undefined ? undefined : join("/sys/fs/cgroup", unified.slice("0::".length));
}

/**
 * A priority counts among the processes of one session only, where Linux shares time between sessions first (autogroups);
 * the fleet and the victim have sessions of their own.
 */
async function setOwnPriority(priority: number): Promise<void> {
  setPriority(priority);
  await writeFile("/proc/self/autogroup", `${priority}`).catch(() => undefined);
}
