// Owns that a process of a fleet is killed and its successor waited for.
import type { TestFleet } from "./fleet.ts";
import { waitUntil } from "./wait.ts";

/** Kills the process of this name (-9); resolves when another is there in its place and the fleet serves. */
export async function killAndAwaitNext(fleet: TestFleet, name: string): Promise<void> {
  const { pid } = fleet.process(name);
  if (pid === undefined) throw new Error(`${name} does not run`);
  process.kill(pid, "SIGKILL");
  await waitUntil(
    `${name} is started anew`,
    () => fleet.process(name).pid,
    (now) => now !== undefined && now !== pid,
  );
  await fleet.whenServing();
}
