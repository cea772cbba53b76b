// Owns what a fault is.
import type { TestFleet } from "#test/harness/fleet.ts";
import { waitUntil } from "#test/harness/wait.ts";
import type { FaultTraffic } from "./traffic.ts";

const restartMs = 120_000;

export interface FaultContext {
  readonly fleet: TestFleet;
  readonly traffic: FaultTraffic;
  /** What the traffic asks for, the most frequent first. */
  readonly models: readonly string[];
  /** Models that nobody has asked for yet, never the same twice. */
  readonly takeCold: (count: number) => readonly string[];
  readonly signal: AbortSignal;
}

/** Makes the fault once, under traffic; resolves when it is over. */
export type MakeFault = (context: FaultContext) => Promise<void>;

export interface Fault {
  /** As it is called in the figures. */
  readonly name: string;
  /** One line. */
  readonly what: string;
  /** Makes ready for it, before the traffic; what that starts ends with the stack. */
  readonly prepare: (fleet: TestFleet, stack: AsyncDisposableStack, signal: AbortSignal) => Promise<MakeFault>;
  /** It leaves its fleet changed, so it has one of its own. */
  readonly ownFleet?: true;
  /** Memory of each pod, when it is not what other faults have. */
  readonly capacityBytes?: number;
  /** How many models the traffic asks for, each as often as any other, when it is not what other faults have. */
  readonly evenModels?: number;
}

/** Kills these processes at once; resolves when all serve again. */
export async function killAndAwait(fleet: TestFleet, names: readonly string[]): Promise<void> {
  const killed = names.map((name) => {
    const process_ = fleet.process(name);
    const { restarts } = process_;
    process.kill(pidOf(fleet, name), "SIGKILL");
    return { process_, restarts };
  });
  await waitUntil(
    `${names.join(" and ")} are started again`,
    () => killed.map(({ process_ }) => process_.state),
    () => killed.every(({ process_, restarts }) => process_.restarts > restarts && process_.state.kind === "ready"),
    restartMs,
  );
  await fleet.whenServing();
}

export function pidOf(fleet: TestFleet, name: string): number {
  const { pid } = fleet.process(name);
  if (pid === undefined) throw new Error(`${name} does not run`);
  return pid;
}
