// Owns the benchmark `faults`: every fault that the fleet must bear, made again and again under checked traffic.
import { openFleet, type TestFleet } from "#test/harness/fleet.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { faults } from "./faults/list.ts";
import { type FaultResult, runFault } from "./faults/run.ts";

export const faultsBenchmark: Benchmark = {
  name: "faults",
  summary: "what becomes of requests when parts of the fleet die, stand still or forget",
  figures: {
    requests: "requests in all, each answer checked; of each fault under `faults`",
    failed: "those without the right answer; a refusal that is retryable and says so has not failed",
    cutOff: "of the failed: gRPC answers that had begun when the model server was killed, which nobody may ask for again",
    refused: "refused in the right form: 429 or 503 with Retry-After, RESOURCE_EXHAUSTED or UNAVAILABLE",
    faultsMade: "faults made",
    worstMs: "the longest time of a request",
    worstHitMs: "the longest time of a request whose model was warm and stayed so",
  },
  run: runFaults,
};

async function runFaults(context: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const { say, requests } = context;
  const parts: Record<string, Figures> = {};
  let shared: TestFleet | undefined;
  for (const fault of faults) {
    say(`${fault.name}: ${fault.what}`);
    if (fault.ownFleet !== true) shared ??= stack.use(await openFleet());
    const result = await runFault(fault, shared, requests, signal);
    parts[fault.name] = figuresOf(result);
    say(`  ${JSON.stringify(figuresOf(result))}`);
    for (const reason of result.sums.reasons) say(`  ${reason}`);
    if (result.broken !== undefined) say(`  it was not over in time: ${result.broken}`);
  }
  const all = Object.values(parts);
  const sum = (name: string): number => all.reduce((total, figures) => total + Number(figures[name]), 0);
  const most = (name: string): number => all.reduce((worst, figures) => Math.max(worst, Number(figures[name])), 0);
  return {
    requests: sum("requests"),
    failed: sum("failed"),
    cutOff: sum("cutOff"),
    refused: sum("refused"),
    faultsMade: sum("faultsMade"),
    worstMs: most("worstMs"),
    worstHitMs: most("worstHitMs"),
    faults: parts,
  };
}

function figuresOf({ sums, made, broken }: FaultResult): Figures {
  const { requests, failed, cutOff, refused, worstMs, worstHitMs } = sums;
  return {
    requests,
    failed: broken === undefined ? failed : failed + 1,
    cutOff,
    refused,
    faultsMade: made,
    worstMs: Math.round(worstMs),
    worstHitMs: Math.round(worstHitMs),
  };
}
