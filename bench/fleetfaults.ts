// Owns the benchmark `fleet-faults`: what becomes of requests when parts of a fleet of several gateways over etcd fail.
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { fleetFaults } from "./fleetfaults/list.ts";
import { openFaultFleet, runFleetFault } from "./fleetfaults/run.ts";

export const fleetFaultsBenchmark: Benchmark = {
  name: "fleet-faults",
  summary: "three gateways with an Envoy each, three pods and a real etcd, their clocks minutes apart, while one of them fails",
  figures: {
    requests: "requests in all, through all gateways, each answer checked; of each fault under `faults`",
    failed: "those without the right answer, and one more for a fault that was not borne as it should be",
    cutOff: "of the failed: gRPC answers that had begun when the model server was killed, which nobody may ask for again",
    worstMs: "the longest time of a request",
    worstHitMs: "the longest time of a request whose model was warm",
  },
  run: runFleetFaults,
};

async function runFleetFaults(
  { say, requests }: BenchmarkContext,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<Figures> {
  const parts: Record<string, Figures> = {};
  const fleet = await openFaultFleet(stack);
  // What the default of all faults is for would take an hour here.
  const each = Math.ceil(requests / fleetFaults.length);
  for (const fault of fleetFaults) {
    say(`${fault.name}: ${fault.what}`);
    const { sums, broken } = await runFleetFault(fault, fleet, { requests: each, share: 1, signal });
    const figures: Figures = {
      requests: sums.requests,
      failed: sums.failed + (broken === undefined ? 0 : 1),
      cutOff: sums.cutOff,
      worstMs: Math.round(sums.worstMs),
      worstHitMs: Math.round(sums.worstHitMs),
    };
    parts[fault.name] = figures;
    say(`  ${JSON.stringify(figures)}`);
    for (const reason of sums.reasons) say(`  ${reason}`);
    if (broken !== undefined) say(`  it was not borne: ${broken}`);
  }
  const all = Object.values(parts);
  const sum = (name: string): number => all.reduce((total, figures) => total + Number(figures[name]), 0);
  const most = (name: string): number => all.reduce((worst, figures) => Math.max(worst, Number(figures[name])), 0);
  return {
    requests: sum("requests"),
    failed: sum("failed"),
    cutOff: sum("cutOff"),
    worstMs: most("worstMs"),
    worstHitMs: most("worstHitMs"),
    faults: parts,
  };
}
