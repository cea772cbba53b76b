// Owns traffic that goes on while something is done to the fleet: checked like that of `--for`, and stopped on request.
import { driveTraffic } from "#cli/traffic/drive.ts";
import type { TrafficReport, TrafficSample } from "#cli/traffic/report.ts";
import type { TestFleet } from "./fleet.ts";
import { waitUntil } from "./wait.ts";

export interface TrafficOptions {
  readonly models: readonly string[];
  readonly concurrency?: number;
  readonly zipfExponent?: number;
}

export interface Trouble {
  /** Since the start. */
  readonly atMs: number;
  readonly outcome: TrafficSample["outcome"];
  readonly model: string;
  readonly latencyMs: number;
  readonly reason: string;
}

export interface Traffic {
  /** Resolves when so many more requests have been answered rightly. */
  more(right: number, timeoutMs?: number): Promise<void>;
  /** What went wrong so far, the first of it. */
  readonly trouble: readonly Trouble[];
  /** Ends it; requests under way are not counted. */
  stop(): Promise<TrafficReport>;
}

const keptTrouble = 20;

export function startTraffic(fleet: TestFleet, { models, concurrency = 8, zipfExponent = 1 }: TrafficOptions): Traffic {
  const stop = new AbortController();
  const startMs = performance.now();
  const trouble: Trouble[] = [];
  let right = 0;
  const onSample = ({ outcome, reason, model, latencyMs }: TrafficSample): void => {
    if (outcome === "right") right += 1;
    else if (trouble.length < keptTrouble) {
      trouble.push({ atMs: performance.now() - startMs, outcome, model, latencyMs, reason: reason ?? "" });
    }
  };
  const driven = driveTraffic({
    restUrl: fleet.restUrl,
    grpcTarget: fleet.grpcTarget,
    models,
    oracle: fleet.oracle,
    durationMs: 120_000,
    concurrency,
    zipfExponent,
    seed: 3,
    signal: stop.signal,
    onSample,
  });
  // It is awaited by stop(); until then a fault in it must not end the process.
  driven.catch(() => undefined);
  return {
    trouble,
    async more(count, timeoutMs = 120_000) {
      const wanted = right + count;
      await waitUntil(
        `${count} more right answers`,
        () => ({ right, wanted, trouble }),
        (seen) => seen.right >= wanted,
        timeoutMs,
      );
    },
    async stop() {
      stop.abort();
      return await driven;
    },
  };
}
