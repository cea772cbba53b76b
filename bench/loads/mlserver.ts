// Owns how long a real MLServer takes to load one more small model while it holds many, driven as an adapter does it.
import { join } from "node:path";
import { createForeignDriver } from "#adapters/drivers/foreign.ts";
import { createMlserver } from "#adapters/drivers/mlserver.ts";
import { createRecord } from "#adapters/drivers/record.ts";
import { systemClock } from "#platform/clock.ts";
import { openMlserver } from "#test/harness/mlserver.ts";
import { percentile } from "../stats.ts";

const held = 1_000;
const measured = 100;

/** Median of the loads beyond the first thousand, in milliseconds. */
export async function measureMlserver(signal: AbortSignal, say: (line: string) => void): Promise<number> {
  await using server = await openMlserver();
  await using driver = createForeignDriver(
    createMlserver({ address: server.restAddress, grpcAddress: server.grpcAddress, root: server.root }),
    createRecord(`${server.root}.copies`),
    { clock: systemClock },
  );
  const path = join(server.models, "sklearn");
  const times: number[] = [];
  for (let at = 0; at < held + measured; at++) {
    signal.throwIfAborted();
    const startMs = performance.now();
    const request = { serverName: `m${at}`, revision: "r1", path, format: "sklearn", expectedBytes: 1, signal };
    const loaded = await driver.load(request);
    if (loaded.kind === "failed") throw new Error(loaded.reason);
    if (at >= held) times.push(performance.now() - startMs);
  }
  say(`MLServer: ${held + measured} models are held`);
  return percentile(times, 0.5);
}
