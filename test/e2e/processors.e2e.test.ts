// Hits with processors of their own: where each process of the fleet may run, also once it was started again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { allowedProcessors } from "#cli/up/processors.ts";
import { listThreads, workerThreads } from "#cli/up/threads.ts";
import { openFleet } from "../harness/fleet.ts";
import { killAndAwaitNext } from "../harness/restart.ts";
import { waitUntil } from "../harness/wait.ts";

const [first = 0, ...others] = await allowedProcessors();

test("Envoy's workers and the model servers have the processors that they are given, all else has the others", {
  timeout: 120_000,
  skip: others.length === 0 ? "it needs two processors" : false,
}, async () => {
  await using fleet = await openFleet({ pods: 1, hitProcessors: [first] });
  const check = async (name: string): Promise<void> => {
    const pid = fleet.process(name).pid ?? 0;
    const side = name === "envoy" || name.endsWith("-server") ? [first] : others;
    for (const thread of await listThreads(pid)) {
      // Those that serve no requests are moved once Envoy is ready.
      const serves = thread.name.startsWith(workerThreads);
      const expected = name === "envoy" && !serves ? others : side;
      await waitUntil(
        `thread ${thread.name} of ${name} runs on ${expected.join()}`,
        () => allowedProcessors(thread.id),
        (processors) => processors.join() === expected.join(),
      );
    }
  };
  for (const name of fleet.processes.keys()) await check(name);
  assert.equal((await fleet.asker.ask("iris-t0001", "rest")).miss, true);

  for (const name of ["gateway", "envoy"]) {
    await killAndAwaitNext(fleet, name);
    await check(name);
  }
});
