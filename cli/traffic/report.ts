// Owns the sums of a traffic run. Invariant: every request is right, wrong or failed, and one that did not fail is
// either a hit or a miss; times are those of the client.
import { createHistogram } from "#core/samples.ts";

export interface TrafficSample {
  readonly model: string;
  readonly protocol: "rest" | "grpc";
  readonly outcome: "right" | "wrong" | "failed";
  /** Whether the answer says that the request waited for a load. */
  readonly miss: boolean;
  readonly latencyMs: number;
  /** Why it is wrong or failed. */
  readonly reason: string | undefined;
}

export interface TrafficReport {
  readonly requests: number;
  /** No answer, or one that is no 200 (gRPC: not OK). */
  readonly failed: number;
  /** An answer that is not the expected prediction. */
  readonly wrong: number;
  readonly hits: number;
  readonly misses: number;
  /** null without a hit, or without a miss. */
  readonly hitP50Ms: number | null;
  readonly hitP99Ms: number | null;
  readonly missP50Ms: number | null;
  readonly missP99Ms: number | null;
  /** The first distinct reasons of failed and wrong requests. */
  readonly errors: readonly string[];
}

export interface Tally {
  add(sample: TrafficSample): void;
  report(): TrafficReport;
}

const keptErrors = 10;
const keptErrorLength = 300;

export function createTally(): Tally {
  const hit = createHistogram();
  const miss = createHistogram();
  const errors = new Set<string>();
  const counts = { requests: 0, failed: 0, wrong: 0, hits: 0, misses: 0 };
  return {
    add(sample) {
      counts.requests += 1;
      if (sample.reason !== undefined && errors.size < keptErrors) errors.add(sample.reason.slice(0, keptErrorLength));
      if (sample.outcome === "failed") {
        counts.failed += 1;
        return;
      }
      if (sample.outcome === "wrong") counts.wrong += 1;
      counts[sample.miss ? "misses" : "hits"] += 1;
      (sample.miss ? miss : hit).record(sample.latencyMs);
    },
    report: () => ({
      ...counts,
      hitP50Ms: hit.quantile(0.5) ?? null,
      hitP99Ms: hit.quantile(0.99) ?? null,
      missP50Ms: miss.quantile(0.5) ?? null,
      missP99Ms: miss.quantile(0.99) ?? null,
      errors: [...errors],
    }),
  };
}
