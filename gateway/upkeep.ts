// Owns all that keeps copies where they are wanted, beyond what requests wait for: by settings and demand, ahead of demand,
// away from pods that go or do too much, and of revisions that are to take over. Each of these is a file of its own; here
// stands who of them hears of what.
// Invariants: all of them ask for copies by copies.ts, but for moves that nobody is worse off without.
import type { ErrorCode } from "#core/errors.ts";
import type { Book } from "./book.ts";
import { type Copies, type CopiesParts, createCopies } from "./copies.ts";
import { createDrains } from "./drains.ts";
import { createDrops, type DropsParts } from "./drops.ts";
import { createFilling } from "./filling.ts";
import type { CopyChange } from "./fleet.ts";
import type { Journal } from "./journal.ts";
import type { Loads } from "./loads.ts";
import { type GatewayOptions, scalingPolicyOf } from "./options.ts";
import type { Rates } from "./rates.ts";
import { createRebalancing, type RebalancingParts } from "./rebalancing.ts";
import { createRevisions, type RevisionsParts } from "./revisions.ts";
import { createScaler, type ScalerParts } from "./scaler.ts";

export interface Upkeep extends Disposable {
  readonly copies: Copies;
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  onPod(podId: string): void;
  onRefused(podId: string, model: string, revision: string, code: ErrorCode, reason: string): void;
  /** A pod wants other places for these. */
  onDraining(podId: string, copies: readonly CopyChange[]): void;
  onModel(model: string): void;
  /** Gateways came or went. */
  onMembers(): void;
  /** Takes up what was under way when the gateway before this one ended; the models of which a revision was to take over. */
  resume(): readonly string[];
  /** Once a second. */
  tick(): void;
  /** Twice a second. */
  fill(): void;
  /** So often a second as `ticksPerSecond` says. */
  scale(): void;
}

export interface UpkeepParts
  extends Omit<CopiesParts, "rateOf" | "patienceMs" | "drops">,
    Pick<DropsParts, "sendDrop">,
    Pick<RebalancingParts, "avoided">,
    Pick<RevisionsParts, "change">,
    Pick<ScalerParts, "wishedOf"> {
  readonly journal: Journal;
  readonly options: GatewayOptions;
  readonly rates: Rates;
  readonly isFlying: Loads["isFlying"];
  readonly matching: Book["matching"];
}

export function createUpkeep(parts: UpkeepParts): Upkeep {
  const { options, rates } = parts;
  const drops = createDrops(parts);
  const rateOf = (model: string): number | undefined => rates.rateOf(model);
  const copies = createCopies({ ...parts, drops, rateOf });
  const filling = createFilling({ ...parts, copies });
  const drains = createDrains({ ...parts, drops, copies });
  const rebalancing = createRebalancing({ ...parts, drops, rateOf });
  const scaler = createScaler({
    ...parts,
    copies,
    policy: scalingPolicyOf(options),
    onUsed: (models) => filling.onUsed(models),
  });
  const revisions = createRevisions({ ...parts, copies, keep: { ms: options.keepRevisionsMs, count: options.keepRevisions } });

  return {
    copies,
    onCopies(podId, changes) {
      drops.onCopies(podId, changes);
      copies.onCopies(podId, changes);
      filling.onCopies(changes);
      revisions.onCopies(changes);
      drains.onCopies(podId, changes);
      rebalancing.onCopies(podId, changes);
    },
    onPod(podId) {
      copies.onPod(podId);
      drains.onPod(podId);
      rebalancing.onPod(podId);
    },
    onRefused(podId, model, revision, code, reason) {
      copies.onRefused(podId, model, revision, code, reason);
      rebalancing.onRefused(podId, model, revision, code, reason);
    },
    onDraining: (podId, listed) => drains.onDraining(podId, listed),
    onModel(model) {
      copies.onModel(model);
      scaler.onModel(model);
      revisions.onModel(model);
    },
    onMembers() {
      copies.onMembers();
      scaler.onMembers();
      revisions.onMembers();
      drains.onMembers();
    },
    resume() {
      for (const name of parts.matching(/"(?:minCopies|pinned)"\s*:/)) {
        copies.onModel(name);
        scaler.onModel(name);
      }
      const changing = Array.from(parts.matching(/"(?:target|split|mirror|retired)"\s*:/));
      for (const name of changing) revisions.onModel(name);
      return changing;
    },
    tick() {
      rebalancing.tick();
      revisions.tick();
    },
    fill: () => filling.tick(),
    scale: () => scaler.tick(),
    [Symbol.dispose]() {
      for (const part of [rebalancing, revisions, drains, copies]) part[Symbol.dispose]();
    },
  };
}
