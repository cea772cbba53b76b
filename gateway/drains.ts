// Owns the emptying of pods that are to go: each copy that was in use gets another place, and then leaves.
//
//   listed --> waiting --its turn--> wanted elsewhere --ready there--> dropped here
//                                         |
//                                         +-- held elsewhere already --> dropped here
//
// The pod lists its copies, the most recently used first, and keeps serving them; each gateway sees to those whose home
// it is. What cannot be placed stays where it is until the pod's patience ends.
// Invariants: a copy is dropped only when another pod that stays holds it ready, and a moment after every gateway had the
// time to hear of that; a bounded number of copies of a pod is on the move at a time.
import type { Copies } from "./copies.ts";
import type { Decisions } from "./decisions.ts";
import type { Drops } from "./drops.ts";
import { type CopyChange, copyKey, type Fleet } from "./fleet.ts";

export interface Drains extends Disposable {
  /** The pod wants other places for these; in several parts when they are many. */
  onDraining(podId: string, copies: readonly CopyChange[]): void;
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** It may have gone, or come back as another. */
  onPod(podId: string): void;
  onMembers(): void;
  /** Copies that have not left yet, of pods being emptied, and that this gateway sees to. */
  readonly pending: number;
}

export interface DrainsParts {
  readonly fleet: Fleet;
  readonly copies: Copies;
  readonly decisions: Decisions;
  readonly isHome: (model: string) => boolean;
  readonly drops: Pick<Drops, "send" | "isHeld">;
  /** 500 ms when absent. */
  readonly settleMs?: number;
}

interface Move {
  readonly key: string;
  readonly model: string;
  readonly revision: string;
  state: "waiting" | "wanted" | "dropped";
  /** Wanted elsewhere, and no pod would take it when that was asked. */
  isStuck: boolean;
}

interface Drain {
  readonly podId: string;
  readonly incarnation: string;
  /** In the order in which they are to go. */
  readonly moves: Map<string, Move>;
  /** Those whose turn has not come, the next one last. */
  turns: Move[];
  /** Those that another gateway sees to. */
  others: Move[];
  readonly timers: Set<NodeJS.Timeout>;
  /** Wanted elsewhere, and not there yet; without those that are stuck. */
  moving: number;
  stuck: number;
}

/** At a time, of one pod: enough to keep the loaders of many pods at work. */
const window = 64;
/** What no pod takes for now does not keep what is behind it, up to so many. */
const maxStuck = 1_000;

export function createDrains(parts: DrainsParts): Drains {
  const { fleet, copies, settleMs = 500 } = parts;
  const drains = new Map<string, Drain>();
  /** Copy -> the pods that it leaves. */
  const leaving = new Map<string, Set<string>>();

  const nameOf = (podId: string): { by: string } => ({ by: `drain of ${podId}` });

  function start(podId: string, incarnation: string): Drain {
    const drain: Drain = { podId, incarnation, moves: new Map(), turns: [], others: [], timers: new Set(), moving: 0, stuck: 0 };
    drains.set(podId, drain);
    return drain;
  }

  function isElsewhere({ key, model }: Move): boolean {
    for (const { podId } of fleet.holders(model)) if (parts.drops.isHeld(podId, key)) return true;
    return false;
  }

  function advance(drain: Drain): void {
    while (drain.moving < window && drain.stuck < maxStuck) {
      const move = drain.turns.pop();
      if (move === undefined) return;
      if (drain.moves.get(move.key) !== move || move.state !== "waiting") continue;
      if (!parts.isHome(move.model)) drain.others.push(move);
      else if (isElsewhere(move)) drop(drain, move);
      else {
        move.state = "wanted";
        copies.want(move.model, move.revision, 1, "migrate", nameOf(drain.podId));
        move.isStuck = copies.state(move.model, move.revision).underWay === 0;
        count(drain, move, 1);
      }
    }
  }

  function count(drain: Drain, { isStuck }: Move, change: 1 | -1): void {
    if (isStuck) drain.stuck += change;
    else drain.moving += change;
  }

  /** Nobody wants it elsewhere for this drain any more. */
  function unwant(drain: Drain, move: Move): void {
    count(drain, move, -1);
    copies.unwant(move.model, move.revision, nameOf(drain.podId).by);
  }

  function drop(drain: Drain, move: Move): void {
    if (move.state === "wanted") unwant(drain, move);
    move.state = "dropped";
    const { model, revision } = move;
    const timer = setTimeout(() => {
      drain.timers.delete(timer);
      // Lost again meanwhile: another place is looked for.
      if (isElsewhere(move)) {
        parts.decisions.record({ kind: "moved", model, revision, reason: "its pod is being emptied", podId: drain.podId });
        parts.drops.send(drain.podId, model, revision);
      } else {
        move.state = "waiting";
        drain.turns.push(move);
        advance(drain);
      }
    }, settleMs);
    drain.timers.add(timer);
  }

  function finish(drain: Drain, move: Move): void {
    if (move.state === "wanted") unwant(drain, move);
    drain.moves.delete(move.key);
    const pods = leaving.get(move.key);
    pods?.delete(drain.podId);
    if (pods?.size === 0) leaving.delete(move.key);
  }

  function end(drain: Drain): void {
    for (const timer of drain.timers) clearTimeout(timer);
    for (const move of Array.from(drain.moves.values())) finish(drain, move);
    drains.delete(drain.podId);
  }

  return {
    onDraining(podId, listed) {
      const pod = fleet.pod(podId);
      if (pod === undefined) return;
      const { incarnation } = pod.info;
      const known = drains.get(podId);
      if (known !== undefined && known.incarnation !== incarnation) end(known);
      const drain: Drain = drains.get(podId) ?? start(podId, incarnation);
      const listedMoves: Move[] = [];
      for (const { model, revision } of listed) {
        const key = copyKey({ model, revision });
        const before = drain.moves.get(key);
        // One that was asked to leave and is listed again has not heard of it: its Link broke.
        if ((before !== undefined && before.state !== "dropped") || pod.copies.get(key)?.state !== "ready") continue;
        const move: Move = { key, model, revision, state: "waiting", isStuck: false };
        drain.moves.set(key, move);
        listedMoves.push(move);
        leaving.set(key, (leaving.get(key) ?? new Set<string>()).add(podId));
      }
      drain.turns = [...listedMoves.reverse(), ...drain.turns];
      advance(drain);
    },
    onCopies(podId, changes) {
      if (drains.size === 0) return;
      const touched = new Set<Drain>();
      for (const change of changes) {
        const key = copyKey(change);
        for (const from of Array.from(leaving.get(key) ?? [])) {
          const drain = drains.get(from);
          const move = drain?.moves.get(key);
          if (drain === undefined || move === undefined) continue;
          if (from === podId && change.state !== "ready") finish(drain, move);
          else if (change.state === "ready" && move.state === "wanted" && isElsewhere(move)) drop(drain, move);
          else continue;
          touched.add(drain);
        }
      }
      for (const drain of touched) advance(drain);
    },
    onPod(podId) {
      const drain = drains.get(podId);
      const pod = fleet.pod(podId);
      if (drain !== undefined && (pod === undefined || pod.info.incarnation !== drain.incarnation)) end(drain);
    },
    onMembers() {
      for (const drain of drains.values()) {
        for (const move of drain.moves.values()) {
          if (move.state !== "wanted" || parts.isHome(move.model)) continue;
          move.state = "waiting";
          drain.others.push(move);
          unwant(drain, move);
        }
        drain.turns = [...drain.turns, ...drain.others];
        drain.others = [];
        advance(drain);
      }
    },
    get pending() {
      let count = 0;
      for (const { moves } of drains.values()) {
        for (const { model } of moves.values()) count += parts.isHome(model) ? 1 : 0;
      }
      return count;
    },
    [Symbol.dispose]() {
      for (const drain of Array.from(drains.values())) end(drain);
    },
  };
}
