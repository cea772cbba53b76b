// Owns the fault of a gateway that is killed while a thousand requests wait in it, each for a model of its own.
import { waitUntil } from "#test/harness/wait.ts";
import { askAllAtOnce } from "./cold.ts";
import { type FaultContext, pidOf } from "./fault.ts";

const parked = 1_000;
/** Less than the silence after which the gateway gives a pod up. */
const parkMs = 3_500;

/** Adapters stand still until the gateway is dead, so that no load ends before. */
export async function restartWhileParked({ fleet, traffic, takeCold }: FaultContext): Promise<void> {
  const adapters = ["pod-0-adapter", "pod-1-adapter"].map((name) => pidOf(fleet, name));
  const gateway = fleet.process("gateway");
  const { restarts } = gateway;
  for (const pid of adapters) process.kill(pid, "SIGSTOP");
  let asking: Promise<void>;
  try {
    asking = askAllAtOnce(fleet, takeCold(parked), traffic);
    asking.catch(() => undefined);
    await waitUntil(
      "the requests wait",
      async () => (await fleet.stats()).waiting,
      (waiting) => waiting >= parked,
      parkMs,
    );
    process.kill(pidOf(fleet, "gateway"), "SIGKILL");
  } finally {
    for (const pid of adapters) process.kill(pid, "SIGCONT");
  }
  await waitUntil(
    "the gateway is started again",
    () => gateway.restarts,
    (now) => now > restarts,
  );
  await asking;
  await fleet.whenServing();
}
