// Owns the run of one fault: traffic, then the fault, once or more, then the sums.
import { openFleet, type TestFleet } from "#test/harness/fleet.ts";
import type { Fault } from "./fault.ts";
import { type FaultSums, startFaultTraffic } from "./traffic.ts";

/** Most of it fits; the rest is loaded and evicted all the time. */
const workingSet = 500;

/** A fault that costs much traffic, such as one that lasts, is not made for ever. */
const mostTimes = 4;
const leastAfter = 200;

export interface FaultResult {
  readonly sums: Readonly<FaultSums>;
  readonly made: number;
  /** What did not come about in time, if so. */
  readonly broken: string | undefined;
}

/** Makes the fault, once at least, until so many requests have been answered. */
export async function runFault(
  fault: Fault,
  shared: TestFleet | undefined,
  requests: number,
  signal: AbortSignal,
): Promise<FaultResult> {
  await using stack = new AsyncDisposableStack();
  const { capacityBytes } = fault;
  const own = fault.ownFleet === true || shared === undefined;
  const fleet = own ? stack.use(await openFleet(capacityBytes === undefined ? {} : { capacityBytes })) : shared;
  const make = await fault.prepare(fleet, stack, signal);
  const { models: all } = fleet.oracle;
  const step = Math.floor(all.length / workingSet);
  const asked = new Set(all.filter((_, at) => at % step === 0));
  const cold = all.filter((model) => !asked.has(model));
  const models = [...asked].slice(0, fault.evenModels);
  const zipfExponent = fault.evenModels === undefined ? 1.1 : 0;
  const traffic = stack.use(startFaultTraffic(fleet, { models, zipfExponent, signal }));
  let made = 0;
  let broken: string | undefined;
  try {
    await traffic.more(500);
    do {
      const takeCold = (count: number): readonly string[] => cold.splice(0, count);
      await make({ fleet, traffic, models, takeCold, signal });
      made += 1;
      await traffic.more(Math.max(leastAfter, Math.ceil(requests / mostTimes)));
    } while (traffic.sums.requests < requests);
  } catch (error) {
    signal.throwIfAborted();
    broken = error instanceof Error ? error.message : String(error);
  }
  await traffic.stop();
  return { sums: traffic.sums, made, broken };
}
