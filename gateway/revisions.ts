// Owns the stable endpoint of a model: its target is loaded to as many copies as the active revision has, then the pointer
// moves; one that fails leaves the active revision serving and the reason in the record; what was replaced is kept for a
// time and then dropped.
//
//   target set --neither has a copy, and nobody asked for a load--> pointer moves at once
//       |
//       +--> wanted: as many copies as the active one has --ready--> pointer moves --kept for a time--> revision dropped
//                 |                                          ^
//                 +--fails--> reason recorded, tried again --+
//
// Invariants: the pointer moves only by compare-and-set on a record that still has this target; only the model's home
// gateway writes; work is done for models with something under way, never for all; at most a few writes are under way.
import { createHeap, type HeapNode } from "#core/heap.ts";
import { findRevision, type Model } from "#core/model.ts";
import { failTarget, isBlocked, type Keep, nextPruneMs, promote, pruneRevisions } from "#core/revision.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import type { ChangeModel, Rewrite } from "./changes.ts";
import type { Copies } from "./copies.ts";
import type { CopyChange, Fleet } from "./fleet.ts";
import type { Journal } from "./journal.ts";

export interface Revisions extends Disposable {
  /** The record was written, changed or removed; also once for every model with something under way at the start. */
  onModel(name: string): void;
  onCopies(changes: readonly CopyChange[]): void;
  /** Gateways came or went. */
  onMembers(): void;
  /** Looks at what takes time: to be called every second or so. */
  tick(): void;
  /** Models with a target, shares or revisions to drop. */
  readonly underWay: number;
}

export interface RevisionsParts {
  readonly findModel: (name: string) => Model | undefined;
  readonly change: ChangeModel;
  readonly copies: Pick<Copies, "want" | "unwant" | "state" | "shrink">;
  readonly fleet: Pick<Fleet, "holders">;
  readonly isHome: (name: string) => boolean;
  readonly journal: Pick<Journal, "note">;
  readonly clock: Clock;
  readonly log: Log;
  readonly keep: Keep;
}

interface Case {
  readonly name: string;
  /** On the wall clock, as the times in records are. */
  dueMs: number;
  node: HeapNode<Case> | undefined;
  /** Revision -> copies wanted of it. */
  readonly wanted: Map<string, number>;
  writing: boolean;
  /** Something happened while a write was under way. */
  again: boolean;
}

const by = "revision";
const maxWrites = 16;
/** Looked at in one tick at most; more take their turns. */
const maxLooks = 1_000;
const lookMs = 1_000;
/** How many copies a share needs follows the active revision's. */
const sharedLookMs = 5_000;
/** Reasons that differ only in their words are not written more often. */
const failureMs = 60_000;

export function createRevisions(parts: RevisionsParts): Revisions {
  const { copies, clock, log, keep } = parts;
  const cases = new Map<string, Case>();
  /** By when they are to be looked at, though nothing was told of them. */
  const due = createHeap<Case>((a, b) => a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.name < b.name));
  const queue = new Set<Case>();
  let writes = 0;
  const closed = new AbortController();

  function look(entry: Case): void {
    const model = parts.findModel(entry.name);
    const wanted = model === undefined ? new Map<string, number>() : listWanted(model);
    for (const revision of entry.wanted.keys()) {
      if (!wanted.has(revision)) copies.unwant(entry.name, revision, by);
    }
    entry.wanted.clear();
    for (const [revision, count] of wanted) {
      entry.wanted.set(revision, count);
      copies.want(entry.name, revision, count, revision === model?.target ? "ensure" : "scale-up", { by });
    }
    const dueMs = model === undefined ? undefined : nextLookMs(model);
    if (model === undefined || dueMs === undefined) {
      cases.delete(entry.name);
      queue.delete(entry);
      if (entry.node !== undefined) due.remove(entry.node);
      return;
    }
    entry.dueMs = dueMs;
    if (entry.node === undefined) entry.node = due.push(entry);
    else due.moved(entry.node);
    if (parts.isHome(entry.name) && rewrite(model).kind !== "keep") enqueue(entry);
  }

  /** Undefined when nothing is under way. */
  function nextLookMs(model: Model): number | undefined {
    const nowMs = clock.now();
    const soonMs = model.target === undefined ? undefined : nowMs + lookMs;
    const shared = model.split === undefined && model.mirror === undefined ? undefined : nowMs + sharedLookMs;
    const prune = nextPruneMs(model, keep);
    // A write that failed is tried again with the next look.
    const times = [soonMs, shared, prune === undefined ? undefined : Math.max(prune, nowMs + lookMs)];
    const known = times.filter((time) => time !== undefined);
    return known.length === 0 ? undefined : Math.min(...known);
  }

  function countReady(model: Model): number {
    return copies.state(model.name, model.active).ready;
  }

  function listWanted(model: Model): Map<string, number> {
    const wanted = new Map<string, number>();
    if (model.target === undefined && model.split === undefined && model.mirror === undefined) return wanted;
    const ready = countReady(model);
    for (const share of [...(model.split ?? []), ...(model.mirror === undefined ? [] : [model.mirror])]) {
      const count = Math.ceil((ready * share.percent) / 100);
      if (count > 0) wanted.set(share.revision, Math.max(count, wanted.get(share.revision) ?? 0));
    }
    if (model.target !== undefined && !movesAtOnce(model)) wanted.set(model.target, countTarget(model, ready));
    return wanted;
  }

  function countTarget(model: Model, ready: number): number {
    return Math.min(Math.max(1, ready, model.minCopies ?? 0), model.maxCopies ?? Number.POSITIVE_INFINITY);
  }

  /**
   * Nobody would notice: neither revision has a copy, none is on its way, and the target is not known to fail. One that was
   * begun is waited for: if it fails, the active revision is loaded again by its next request.
   */
  function movesAtOnce(model: Model): boolean {
    if (model.loadNow === true || (model.minCopies ?? 0) > 0 || isBlocked(model)) return false;
    if (model.target === undefined) return false;
    const target = copies.state(model.name, model.target);
    if (target.underWay > 0 || isBlocked(target)) return false;
    const { ready, underWay } = copies.state(model.name, model.active);
    return ready === 0 && underWay === 0;
  }

  /** What the record should become, now. */
  function rewrite(model: Model): Rewrite {
    const nowMs = clock.now();
    const { target } = model;
    if (target !== undefined) {
      const state = copies.state(model.name, target);
      if (movesAtOnce(model) || state.ready >= countTarget(model, countReady(model))) {
        return put(promote(model, target, nowMs));
      }
      const { failure } = state;
      if (failure !== undefined && state.underWay === 0) {
        const known = model.failure;
        if (known?.code !== failure.code || nowMs - known.atMs >= failureMs) {
          const { code, reason } = failure;
          const failed = failTarget(model, { revision: target, code, reason, atMs: Math.round(nowMs) });
          if (failed.kind === "ok" && failed.model !== model) return put(failed);
        }
      }
    }
    const pruned = pruneRevisions(model, nowMs, keep);
    return pruned.kind === "ok" && pruned.model !== model ? put(pruned) : { kind: "keep" };
  }

  function enqueue(entry: Case): void {
    if (entry.writing) {
      entry.again = true;
      return;
    }
    queue.add(entry);
    pump();
  }

  function pump(): void {
    while (writes < maxWrites && !closed.signal.aborted) {
      const entry = queue.values().next().value;
      if (entry === undefined) return;
      queue.delete(entry);
      void write(entry);
    }
  }

  async function write(entry: Case): Promise<void> {
    writes += 1;
    entry.writing = true;
    try {
      const done = await parts.change(entry.name, (known) => (known === undefined ? { kind: "keep" } : rewrite(known)));
      if (done.kind === "refused") log.warn("a revision could not be changed", { model: entry.name, reason: done.reason });
      else tell(done.was, done.model);
      // The next look comes with the record's own change; or with the next tick, when the registry is away.
    } finally {
      writes -= 1;
      entry.writing = false;
      if (entry.again && cases.get(entry.name) === entry) {
        entry.again = false;
        look(entry);
      }
      pump();
    }
  }

  function tell(was: Model | undefined, model: Model | undefined): void {
    if (was === undefined || model === undefined) return;
    const { name } = model;
    if (was.active !== model.active) {
      log.info("a model's pointer moved", { model: name, from: was.active, to: model.active });
      parts.journal.note(name, { what: "promoted", revision: model.active, reason: `before it ${was.active}` });
    }
    if (model.failure !== undefined && was.failure?.atMs !== model.failure.atMs) {
      const { revision, code, reason } = model.failure;
      log.warn("a target does not load; the active revision serves on", { model: name, revision, code, reason });
    }
  }

  /** Copies of what the record names no more give their room back. */
  function dropOrphans(name: string): void {
    if (!parts.isHome(name)) return;
    const model = parts.findModel(name);
    const orphans = new Set<string>();
    for (const { copy } of parts.fleet.holders(name)) {
      if (model === undefined || findRevision(model, copy.revision) === undefined) orphans.add(copy.revision);
    }
    for (const revision of orphans) copies.shrink(name, revision, 0);
  }

  return {
    onModel(name) {
      const model = parts.findModel(name);
      dropOrphans(name);
      let entry = cases.get(name);
      if (entry === undefined) {
        if (model === undefined || nextLookMs(model) === undefined) return;
        entry = { name, dueMs: 0, node: undefined, wanted: new Map(), writing: false, again: false };
        cases.set(name, entry);
      }
      look(entry);
    },
    onCopies(changes) {
      for (const { model: name, revision, state } of changes) {
        const entry = cases.get(name);
        if (entry !== undefined) look(entry);
        // A load that was under way when its revision was dropped.
        if (state !== "ready" || !parts.isHome(name)) continue;
        const model = parts.findModel(name);
        if (model === undefined || findRevision(model, revision) === undefined) copies.shrink(name, revision, 0);
      }
    },
    onMembers() {
      for (const entry of Array.from(cases.values())) look(entry);
    },
    tick() {
      const nowMs = clock.now();
      for (let looks = 0; looks < maxLooks; looks++) {
        const entry = due.first()?.value;
        if (entry === undefined || entry.dueMs > nowMs) return;
        look(entry);
      }
    },
    get underWay() {
      return cases.size;
    },
    [Symbol.dispose]() {
      closed.abort();
      queue.clear();
    },
  };
}

function put(changed: ReturnType<typeof promote>): Rewrite {
  return changed.kind === "ok" ? { kind: "put", model: changed.model } : changed;
}
