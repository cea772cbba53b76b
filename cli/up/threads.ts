// Owns the threads of a process that runs, as Linux lists them.
import { readdir, readFile } from "node:fs/promises";

export interface Thread {
  /** A process's main thread has that of the process. */
  readonly id: number;
  /** At most 15 characters. */
  readonly name: string;
}

/** As Envoy's threads that serve requests are called. */
export const workerThreads = "wrk:";

/** Those that are there now; one that ends meanwhile is left out. Rejects when there is no such process. */
export async function listThreads(pid: number): Promise<readonly Thread[]> {
  const found: Thread[] = [];
  for (const id of await readdir(`/proc/${pid}/task`)) {
    const name = await readFile(`/proc/${pid}/task/${id}/comm`, "utf8").catch(() => undefined);
    if (name !== undefined) found.push({ id: Number(id), name: name.trimEnd() });
  }
  return found;
}
