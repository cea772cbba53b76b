// Owns how the models of a benchmark's fleet are warmed before anything is measured.
import { createGrpcCaller } from "#cli/traffic/grpc.ts";
import { createRestCaller } from "#cli/traffic/rest.ts";
import { sleep } from "#platform/clock.ts";
import type { BenchFleet } from "./fleet.ts";
import { type BenchCase, checkCases } from "./requests.ts";

const loadTimeoutMs = 60_000;

/** Every model has been asked through Envoy, over both protocols and all paths, and answered rightly; none waits any more. */
export async function warm(fleet: BenchFleet, cases: readonly BenchCase[], signal: AbortSignal): Promise<void> {
  const url = ({ host, port }: { readonly host: string; readonly port: number }): string => `${host}:${port}`;
  for (const path of ["hit", "hit", "static", "direct"] as const) {
    await using rest = createRestCaller({
      url: `http://${url(fleet.ports[path].rest)}`,
      connections: 8,
      timeoutMs: loadTimeoutMs,
    });
    await using grpc = createGrpcCaller({ target: url(fleet.ports[path].grpc), timeoutMs: loadTimeoutMs });
    for (const caller of [rest, grpc]) await checkCases(caller, cases, signal);
  }
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(loadTimeoutMs)]);
  for (;;) {
    const stats = await fleet.management.stats();
    if (stats !== undefined && stats.warm >= cases.length && stats.waiting === 0) return;
    await sleep(50, deadline);
  }
}
