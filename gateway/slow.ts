// Owns the memory of the slowest misses of late, with their steps: for people who ask where the time went.
// Invariants: bounded; one that is kept is slower than nine of ten, or failed; the newest push out the oldest. What the caller
// got wrong is neither: whoever asks for names that are not there would push everything else out.
import type { ErrorCode } from "#core/errors.ts";
import { createHistogram } from "#core/samples.ts";
import type { MissRecord } from "./spans.ts";

export interface SlowMisses {
  add(record: MissRecord): void;
  /** The newest first. */
  list(): readonly MissRecord[];
  /** How many there have been. */
  readonly kept: number;
}

const maxKept = 64;
/** So often the bar is set anew, for what was slow an hour ago may be usual now. */
const renewAfter = 1_000;

const mistakes: ReadonlySet<string> = new Set<ErrorCode>([
  "invalid-name",
  "invalid-request",
  "unauthenticated",
  "permission-denied",
  "unsupported-method",
  "method-not-allowed",
  "model-not-found",
  "revision-not-found",
]);

export function createSlowMisses(): SlowMisses {
  let records: MissRecord[] = [];
  let recent = createHistogram();
  let before = createHistogram();
  let kept = 0;
  return {
    add(record) {
      if (record.failure !== undefined && mistakes.has(record.failure)) return;
      const bar = before.count > 0 ? before : recent;
      const barMs = bar.count < 10 ? 0 : (bar.quantile(0.9) ?? 0);
      recent.record(record.tookMs);
      if (recent.count >= renewAfter) [before, recent] = [recent, createHistogram()];
      if (record.model === "" || (record.failure === undefined && record.tookMs < barMs)) return;
      kept += 1;
      records = [record, ...records.slice(0, maxKept - 1)];
    },
    list: () => records,
    get kept() {
      return kept;
    },
  };
}
