// Owns the faults: how each is made on a whole fleet from outside, and when it is over. None is told to the fleet.
// Invariant: after `make` the fleet is as before it, but for what it holds warm.
import { readFileSync } from "node:fs";
import { sleep } from "#platform/clock.ts";
import type { TestFleet } from "#test/harness/fleet.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { breakStreams } from "./faultstreams.ts";
import { askColdAtOnce, fillQueue, parkThenKill } from "./faultqueue.ts";
import { pushRefused } from "./faultrefused.ts";
import type { FaultTraffic } from "./faulttraffic.ts";

export interface FaultContext {
  readonly fleet: TestFleet;
  readonly traffic: FaultTraffic;
  /** Models that the traffic asks for, the most frequent first. */
  readonly models: readonly string[];
  readonly signal: AbortSignal;
}

export interface Fault {
  /** As it is called in the figures. */
  readonly name: string;
  /** One line. */
  readonly what: string;
  /** Makes it once, under traffic; resolves when it is over. */
  readonly make: (context: FaultContext) => Promise<void>;
  /** A fleet of its own with so much memory in each pod, too little for the models asked for, all equally often. */
  readonly tight?: { readonly capacityBytes: number; readonly models: number };
  /** It cannot be made twice on one fleet. */
  readonly once?: true;
}

const restartMs = 30_000;
const frozenMs = 10_000;
const forgottenAtOnce = 10;

async function killAndAwait(fleet: TestFleet, names: readonly string[]): Promise<void> {
  const killed = names.map((name) => {
    const process_ = fleet.process(name);
    const { pid, restarts } = process_;
    if (pid === undefined) throw new Error(`${name} does not run`);
    return { name, process_, pid, restarts };
  });
  for (const { pid } of killed) process.kill(pid, "SIGKILL");
  await waitUntil(
    `${names.join(" and ")} started again`,
    () => killed.map(({ name, process_ }) => ({ name, restarts: process_.restarts, state: process_.state.kind })),
    (seen) => seen.every(({ restarts, state }, at) => state === "ready" && restarts > (killed[at]?.restarts ?? 0)),
    restartMs,
  );
  await fleet.whenServing();
}

/** Behind the adapter's back: on the socket where the adapter itself would unload it. */
async function forget({ fleet, traffic, models }: FaultContext): Promise<void> {
  for (const model of models.slice(0, forgottenAtOnce)) {
    for (const pod of [0, 1]) {
      await fleet.askPod(pod, "POST", `/v2/repository/models/${model}/unload`);
    }
    await traffic.more(50);
  }
}
