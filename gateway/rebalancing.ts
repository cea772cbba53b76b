// Owns the moves of copies in use from pods that do much more work than others, to those; core/rebalance.ts decides which.
//
//   asked of the other pod --ready there--> (a moment) --> dropped here
//            |                                   |
//            +-- refused, failed, late, gone ----+--> left as it is
//
// Gateways take turns, by rendezvous over the number of the turn: what one moves shows in the pods' gauges before the next
// one looks. Each moves only what it is the home of, for it alone knows how much that is used.
// Invariants: a copy is dropped only when the other one is ready on a pod that stays, and a moment after every gateway had
// the time to hear of that; nothing is tried again: what did not move is looked at anew, and no model soon again.
import type { ErrorCode } from "#core/errors.ts";
import { findRevision, type Model, type Revision } from "#core/model.ts";
import type { PodView } from "#core/placement/request.ts";
import {
  type CopyUse,
  chooseMoves,
  defaultRebalancePolicy,
  type Evenness,
  even,
  type Move,
  type RebalancePolicy,
  watchEvenness,
} from "#core/rebalance.ts";
import type { Clock } from "#platform/clock.ts";
import { askUnasked } from "./copies.ts";
import type { Decisions } from "./decisions.ts";
import type { Drops } from "./drops.ts";
import { type Copy, type CopyChange, copyKey, type Fleet } from "./fleet.ts";
import type { Journal } from "./journal.ts";
import type { LoadAsk } from "./links.ts";
import { type Placements, requestOf } from "./placements.ts";
import type { Suspects } from "./suspects.ts";

export interface Rebalancing extends Disposable {
  /** Once a second. */
  tick(): void;
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  onPod(podId: string): void;
  onRefused(podId: string, model: string, revision: string, code: ErrorCode, reason: string): void;
  /** Copies on the move. */
  readonly moving: number;
}

export interface RebalancingParts {
  readonly fleet: Fleet;
  readonly placements: Pick<Placements, "asked" | "answered">;
  readonly decisions: Pick<Decisions, "record">;
  readonly journal: Pick<Journal, "since">;
  readonly suspects: Pick<Suspects, "check">;
  readonly clock: Pick<Clock, "monotonicMs" | "now">;
  readonly findModel: (name: string) => Model | undefined;
  readonly isHome: (model: string) => boolean;
  /** Requests per second, when known. */
  readonly rateOf: (model: string) => number | undefined;
  /** Pods that would refuse it. */
  readonly avoided: (model: string, revision: Revision) => CopyUse["request"]["excluded"];
  readonly sendLoad: (podId: string, model: string, revision: Revision, ask: LoadAsk) => void;
  readonly cancelLoad: (podId: string, model: string, revision: string) => void;
  readonly drops: Omit<Drops, "onCopies">;
  readonly policy?: RebalancePolicy;
  /** 500 ms when absent. */
  readonly settleMs?: number;
}

interface UnderWay extends Move {
  readonly timer: NodeJS.Timeout;
  /** Ready there. */
  settling: boolean;
}

/** Twice what gauges remember: what was moved in one turn shows in the next. */
const turnMs = 60_000;
/** In the first part of a turn only: clocks of gateways differ. */
const turnPart = 0.5;
const againMs = 600_000;
/** So long a copy stays where it was loaded: what it is asked for at first is what had to wait for it. */
const youngMs = 60_000;
const patienceMs = 120_000;
const waitMs = 60_000;
/** Nothing that was used in the last half hour leaves for it. */
const spareAgeMs = 1_800_000;

export function createRebalancing(parts: RebalancingParts): Rebalancing {
  const { fleet, drops, clock, policy = defaultRebalancePolicy, settleMs = 500 } = parts;
  const evenness = new Map<string, Evenness>();
  const lastTurns = new Map<string, number>();
  const underWay = new Map<string, UnderWay>();
  /** When a move of the model began, in that order. */
  const moved = new Map<string, number>();

  function* copiesOn(podId: string): Generator<CopyUse> {
    for (const copy of fleet.pod(podId)?.copies.values() ?? []) {
      const use = copy.state === "ready" && !isYoung(podId, copy) ? useOf(copy) : undefined;
      if (use !== undefined) yield use;
    }
  }

  function isYoung(podId: string, { model, revision }: Copy): boolean {
    const since = parts.journal.since(model, revision, podId);
    return since !== undefined && clock.now() - since < youngMs;
  }

  function useOf({ model: name, revision: id, sizeBytes }: Copy): CopyUse | undefined {
    if (moved.has(name) || !parts.isHome(name) || parts.suspects.check(copyKey({ model: name, revision: id })) !== undefined)
      return undefined;
    const rate = parts.rateOf(name);
    if (rate === undefined || rate < policy.leastRate) return undefined;
    const model = parts.findModel(name);
    const revision = model === undefined ? undefined : findRevision(model, id);
    // What is being changed, or shares its requests out, moves when that is over.
    if (model === undefined || revision === undefined || model.active !== id) return undefined;
    if (model.target !== undefined || model.split !== undefined || model.mirror !== undefined) return undefined;
    const holders = Array.from(fleet.holders(name));
    // On the way to somewhere already.
    if (holders.some(({ podId, copy }) => copy.state !== "ready" || drops.isAsked(podId, copyKey(copy)))) return undefined;
    const requestsPerSecond = rate / holders.length;
    const request = requestOf(name, revision, {
      excluded: parts.avoided(name, revision),
      holders: new Set(holders.map(({ podId }) => podId)),
      waitingUser: false,
      minAgeMs: spareAgeMs,
      sizeBytes,
      requestsPerSecond,
    });
    return { requestsPerSecond, request };
  }

  function begin(move: Move, nowMs: number): void {
    const model = parts.findModel(move.model);
    const revision = model === undefined ? undefined : findRevision(model, move.revision);
    if (model === undefined || revision === undefined) return;
    const key = copyKey(move);
    const timer = setTimeout(() => {
      parts.cancelLoad(move.to, move.model, move.revision);
      end(key);
    }, patienceMs);
    underWay.set(key, { ...move, timer, settling: false });
    moved.set(move.model, nowMs);
    parts.placements.asked(move.to);
    const ask = askUnasked(model, "migrate", waitMs, parts.rateOf(move.model));
    parts.sendLoad(move.to, move.model, revision, ask);
  }

  function end(key: string): void {
    const move = underWay.get(key);
    if (move === undefined) return;
    clearTimeout(move.timer);
    underWay.delete(key);
    if (!move.settling) parts.placements.answered(move.to);
  }

  function settle(key: string, { timer, ...move }: UnderWay): void {
    clearTimeout(timer);
    parts.placements.answered(move.to);
    const drop = setTimeout(() => {
      const { model, revision, from, to, reason } = move;
      end(key);
      if (!drops.isHeld(to, key) || !drops.isHeld(from, key)) return;
      parts.decisions.record({ kind: "moved", model, revision, reason, podId: from });
      drops.send(from, model, revision);
    }, settleMs);
    underWay.set(key, { ...move, timer: drop, settling: true });
  }

  /** The turn that this gateway has now; undefined while it has none. */
  function turnOf(runtime: string): number | undefined {
    const turn = Math.floor(clock.now() / turnMs);
    const isEarly = clock.now() - turn * turnMs < turnMs * turnPart;
    return isEarly && parts.isHome(`${runtime}@${turn}`) ? turn : undefined;
  }

  function consider(runtime: string, pods: readonly PodView[], nowMs: number): void {
    const state = watchEvenness(pods, evenness.get(runtime) ?? even, policy, nowMs);
    if (state === even) evenness.delete(runtime);
    else evenness.set(runtime, state);
    const turn = state.moving ? turnOf(runtime) : undefined;
    if (turn === undefined || turn === lastTurns.get(runtime) || underWay.size > 0) return;
    lastTurns.set(runtime, turn);
    for (const move of chooseMoves(pods, copiesOn, policy, nowMs)) begin(move, nowMs);
  }

  return {
    tick() {
      const nowMs = clock.monotonicMs();
      for (const [model, sinceMs] of moved) {
        if (nowMs - sinceMs < againMs) break;
        moved.delete(model);
      }
      const byRuntime = Map.groupBy(fleet.views(), ({ runtime }) => runtime);
      for (const known of [evenness, lastTurns]) {
        for (const runtime of known.keys()) if (!byRuntime.has(runtime)) known.delete(runtime);
      }
      for (const [runtime, pods] of byRuntime) consider(runtime, pods, nowMs);
    },
    onCopies(podId, changes) {
      if (underWay.size === 0) return;
      for (const change of changes) {
        const key = copyKey(change);
        const move = underWay.get(key);
        if (move === undefined) continue;
        const { state } = change;
        if (podId === move.to && state === "ready" && !move.settling) settle(key, move);
        else if (podId === move.to && (state === "failed" || state === "gone" || state === "leaving")) end(key);
        else if (podId === move.from && state !== "ready") end(key);
      }
    },
    onPod(podId) {
      const pod = fleet.pod(podId);
      if (underWay.size === 0 || (pod?.reachable === true && !pod.gauges.draining)) return;
      for (const [key, { from, to }] of underWay) if (podId === from || podId === to) end(key);
    },
    onRefused(podId, model, revision) {
      const key = copyKey({ model, revision });
      if (underWay.get(key)?.to === podId) end(key);
    },
    get moving() {
      return underWay.size;
    },
    [Symbol.dispose]() {
      for (const key of underWay.keys()) end(key);
    },
  };
}
