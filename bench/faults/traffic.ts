// Owns the traffic under which a fault is made: checked, steady, until it is stopped, summed up as it goes.
// Invariant: a request that is wrong has failed as well; those that the end cuts off are not counted.
import { driveTraffic } from "#cli/traffic/drive.ts";
import type { TrafficSample } from "#cli/traffic/report.ts";
import type { TestFleet } from "#test/harness/fleet.ts";
import { waitUntil } from "#test/harness/wait.ts";

export interface FaultSums {
  requests: number;
  /** No answer, an error, or not the right answer. */
  failed: number;
  /** Of those that failed: gRPC answers that had begun when the model server died, so that nobody may ask again. */
  cutOff: number;
  /** Refused as they should be: retryable, and said in the protocol's own form. These have not failed. */
  refused: number;
  /** Right answers that did not wait for a load. */
  hits: number;
  worstMs: number;
  /** Of the hits. */
  worstHitMs: number;
  /** The first of what failed, each with the time since the start. */
  readonly reasons: string[];
}

export interface FaultTraffic extends AsyncDisposable {
  readonly sums: Readonly<FaultSums>;
  /** Resolves when so many more requests have been answered rightly. */
  more(right: number, timeoutMs?: number): Promise<void>;
  /** Counts a request of the fault's own. */
  count(latencyMs: number, outcome: "right" | "refused" | { readonly failure: string }): void;
  stop(): Promise<void>;
}

export interface FaultTrafficOptions {
  readonly models: readonly string[];
  /** 0: each model is asked as often as any other. */
  readonly zipfExponent: number;
  readonly signal: AbortSignal;
}

const clients = 8;
const keptReasons = 10;
const longestMs = 600_000;
/**
 * Of gRPC, when a model server is killed after the answer's headers and before its trailers. Node writes the two apart, and
 * Envoy passes on what it has.
 */
const afterHeaders = /^gRPC: 13 INTERNAL: Received RST_STREAM with code 2/;

export function startFaultTraffic(fleet: TestFleet, options: FaultTrafficOptions): FaultTraffic {
  const { models, zipfExponent } = options;
  const stopping = new AbortController();
  const startMs = performance.now();
  const sums: FaultSums = { requests: 0, failed: 0, cutOff: 0, refused: 0, hits: 0, worstMs: 0, worstHitMs: 0, reasons: [] };

  function add(latencyMs: number, failure: string | undefined): void {
    sums.requests += 1;
    sums.worstMs = Math.max(sums.worstMs, latencyMs);
    if (failure === undefined) return;
    sums.failed += 1;
    if (afterHeaders.test(failure)) sums.cutOff += 1;
    if (sums.reasons.length >= keptReasons) return;
    sums.reasons.push(`at ${Math.round(performance.now() - startMs)} ms, after ${Math.round(latencyMs)} ms: ${failure}`);
  }

  function onSample({ outcome, reason, latencyMs, miss, model }: TrafficSample): void {
    add(latencyMs, outcome === "right" ? undefined : (reason ?? `${outcome}: ${model}`));
    if (outcome !== "right" || miss) return;
    sums.hits += 1;
    sums.worstHitMs = Math.max(sums.worstHitMs, latencyMs);
  }

  const driven = driveTraffic({
    restUrl: fleet.restUrl,
    grpcTarget: fleet.grpcTarget,
    others: fleet.gateways.slice(1),
    models,
    oracle: fleet.oracle,
    durationMs: longestMs,
    concurrency: clients,
    zipfExponent,
    seed: 7,
    signal: AbortSignal.any([stopping.signal, options.signal]),
    onSample,
  });
  // stop() awaits it; until then a fault in it must not end the process.
  driven.catch(() => undefined);

  async function stop(): Promise<void> {
    stopping.abort();
    await driven;
  }

  return {
    sums,
    async more(count, timeoutMs = 60_000) {
      const right = (): number => sums.requests - sums.failed - sums.refused;
      const wanted = right() + count;
      await waitUntil(
        `${count} more right answers`,
        () => {
          options.signal.throwIfAborted();
          return { wanted, right: right(), reasons: sums.reasons };
        },
        (seen) => seen.right >= seen.wanted,
        timeoutMs,
      );
    },
    count(latencyMs, outcome) {
      if (outcome === "refused") sums.refused += 1;
      add(latencyMs, typeof outcome === "string" ? undefined : outcome.failure);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
