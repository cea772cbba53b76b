// Owns the fault of a full queue: the gateway lets few requests wait, and far more ask for cold models at once.
import { readFile } from "node:fs/promises";
import { superviseProcess } from "#platform/process.ts";
import type { TestFleet } from "#test/harness/fleet.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { askAllAtOnce } from "./cold.ts";
import { type MakeFault, pidOf } from "./fault.ts";

const maxWaiting = 20;
const atOnce = 200;

/** Another gateway in the place of the fleet's: as that was started, but for its bound. */
export async function prepareFullQueue(fleet: TestFleet, stack: AsyncDisposableStack): Promise<MakeFault> {
  const commandLine = await readFile(`/proc/${pidOf(fleet, "gateway")}/cmdline`, "utf8");
  const [command = "", ...args] = commandLine.split("\0").slice(0, -1);
  await fleet.process("gateway").stop();
  const gateway = stack.use(
    superviseProcess({
      name: "gateway",
      command,
      args: [...args, "--max-waiting", `${maxWaiting}`],
      readyLine: /^\{"ready":true/,
      restart: { kind: "never" },
    }),
  );
  await gateway.ready;
  await waitUntil(
    "the gateway serves",
    async () => ({ linkedPods: await fleet.management.linkedPods(), ready: await fleet.management.isReady() }),
    ({ linkedPods, ready }) => linkedPods === 2 && ready,
  );
  return async ({ traffic, takeCold }) => {
    const { refused } = traffic.sums;
    await askAllAtOnce(fleet, takeCold(atOnce), traffic);
    if (traffic.sums.refused === refused) throw new Error(`${atOnce} cold requests at once, and none was refused`);
    await traffic.more(1_000);
  };
}
