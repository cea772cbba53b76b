// Owns the fault of broken streams between Envoy and its gateway, while both live: a relay takes the place of the
// gateway's socket and breaks what goes through it.
import { renameSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { TestFleet } from "#test/harness/fleet.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { type MakeFault, pidOf } from "./fault.ts";

export async function prepareBrokenStreams(fleet: TestFleet, stack: AsyncDisposableStack): Promise<MakeFault> {
  const path = join(fleet.runFolder, "gateway.sock");
  const behind = join(fleet.runFolder, "behind.sock");
  renameSync(path, behind);
  const open = new Set<Socket>();
  const relay = createServer((near) => {
    const far = connect(behind);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  relay.listen(path, resolve);
  await promise;
  stack.defer(() => {
    relay.close();
    // Envoy finds the gateway itself from here on.
    renameSync(behind, path);
    for (const socket of open) socket.destroy();
  });
  // Only an Envoy that starts now connects through the relay.
  const envoy = fleet.process("envoy");
  const { restarts } = envoy;
  process.kill(pidOf(fleet, "envoy"), "SIGKILL");
  await waitUntil(
    "Envoy is started again",
    () => envoy.restarts,
    (now) => now > restarts,
  );
  await fleet.whenServing();
  return async ({ traffic }) => {
    if (open.size === 0) throw new Error("nothing goes through the relay");
    for (const socket of open) socket.destroy();
    await waitUntil(
      "Envoy is connected again",
      async () => ({ open: open.size, ready: await fleet.management.isReady() }),
      (seen) => seen.open > 0 && seen.ready,
      15_000,
    );
    await traffic.more(500);
  };
}
