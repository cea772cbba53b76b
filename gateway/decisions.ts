// Owns the memory of the latest decisions on each model: why a copy is where it is, why there is none, why a request had
// to wait. Values for whoever explains them; nothing depends on them.
// Bounded: the latest few of each model, of the models decided on last.
import type { RankKeys } from "#core/placement/rank.ts";

export type DecisionKind =
  /** A pod was chosen for a copy; `keys` say what spoke for it. */
  | "placed"
  /** No pod can take it. */
  | "nowhere"
  /** A pod was asked and said no, or the load failed there. */
  | "refused"
  /** All tries are over: requests are answered with the reason. */
  | "failed"
  /** Another gateway was asked to decide. */
  | "asked-home"
  /** It did not answer. */
  | "home-lost"
  | "scaled-up"
  | "scaled-down"
  /** A copy moves away from a pod that is being emptied, or does much more than others. */
  | "moved"
  /** Loaded ahead of demand. */
  | "filled";

export interface Decision {
  readonly kind: DecisionKind;
  readonly model: string;
  readonly revision: string;
  readonly reason: string;
  readonly podId?: string | undefined;
  readonly keys?: RankKeys;
}

export interface TimedDecision extends Decision {
  /** Of the epoch. */
  readonly atMs: number;
}

export interface Decisions {
  record(decision: Decision): void;
  /** The latest first. */
  of(model: string): readonly TimedDecision[];
}

const maxEach = 16;
const maxModels = 10_000;
const maxReasonLength = 500;

export function createDecisions(clock: { now(): number }): Decisions {
  const byModel = new Map<string, TimedDecision[]>();
  return {
    record(decision) {
      const known = byModel.get(decision.model) ?? [];
      known.unshift({ ...decision, reason: decision.reason.slice(0, maxReasonLength), atMs: clock.now() });
      if (known.length > maxEach) known.length = maxEach;
      // Deleted first, so that the map's order is the order of decisions.
      byModel.delete(decision.model);
      byModel.set(decision.model, known);
      const oldest = byModel.keys().next().value;
      if (byModel.size > maxModels && oldest !== undefined) byModel.delete(oldest);
    },
    of: (model) => byModel.get(model) ?? [],
  };
}
