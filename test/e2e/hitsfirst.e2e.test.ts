// Hits before all else: which threads of the fleet are in the real-time class, also once a process was started again.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { inRealTime, realTimePriorities } from "#cli/up/realtime.ts";
import { listThreads, workerThreads } from "#cli/up/threads.ts";
import { openFleet } from "../harness/fleet.ts";
import { killAndAwaitNext } from "../harness/restart.ts";
import { waitUntil } from "../harness/wait.ts";

const execute = promisify(execFile);
const mayBe = (await inRealTime({ command: "true", args: [] }, realTimePriorities.envoyWorkers)) !== undefined;

/** proc_pid_stat(5): 0 outside the real-time class. */
async function priorityOf(thread: number): Promise<number> {
  const stat = await readFile(`/proc/${thread}/stat`, "utf8");
  const [priority = ""] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(40 - 3);
  return Number(priority);
}

test("Envoy's workers and the model servers run before all else, also once they were started again", {
  timeout: 120_000,
  skip: mayBe ? false : "it needs the right to a real-time priority",
}, async () => {
  await using fleet = await openFleet({ pods: 1, hitsFirst: true });
  const expected = (name: string, thread: string): number => {
    if (name.endsWith("-server")) return realTimePriorities.servers;
    return name === "envoy" && thread.startsWith(workerThreads) ? realTimePriorities.envoyWorkers : 0;
  };
  const check = async (name: string): Promise<void> => {
    const threads = await listThreads(fleet.process(name).pid ?? 0);
    assert.ok(threads.length > 0, name);
    // Those of Envoy are raised once it is ready.
    for (const thread of threads)
      await waitUntil(
        `thread ${thread.name} of ${name} has its priority`,
        () => priorityOf(thread.id),
        (priority) => priority === expected(name, thread.name),
      );
  };
  for (const name of fleet.processes.keys()) await check(name);
  assert.equal((await fleet.asker.ask("iris-t0001", "rest")).miss, true);

  for (const name of ["pod-0-server", "envoy"]) {
    await killAndAwaitNext(fleet, name);
    await check(name);
  }
  await fleet.asker.ask("iris-t0001", "grpc");
});

test("who may set no real-time priority is told what is missing", { timeout: 60_000 }, async () => {
  // Whoever has the capability gives it away; others have none.
  const without = mayBe ? ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", "prlimit", "--rtprio=0"] : ["env"];
  const [tool = "", ...before] = without;
  const script = `
    import { requireRealTime } from "#cli/up/realtime.ts";
    await requireRealTime().then(() => console.log("it may"), (error) => console.log(error.name, error.message));`;
  const { stdout } = await execute(tool, [...before, process.execPath, "--input-type=module", "--eval", script]);
  assert.match(stdout, /^StartupError --hits-first needs .*CAP_SYS_NICE/);
});
