// Owns the keeping of as many ready copies of a revision as are wanted, beyond those that requests bring about.
//
//   wanted --too few--> place --Load--> under way --ready--> (enough)
//              ^                           |
//              +------- after a pause -----+ failed, refused, given up, pod lost
//
// Whoever wants copies says how many; of several who want some of the same revision, the one that wants most counts.
// Copies on pods that cannot be reached or are being emptied do not count, so others are found before those go.
// Invariants: only the model's home gateway asks pods; elsewhere a want rests until this gateway becomes the home. Work
// is done for what changed only: a change of a copy, of its pod, of its model; when a pod comes, for the wants that lack
// one; when gateways come or go, for all wants. A want is never given up, and never tried without a growing pause.

import type { ErrorCode } from "#core/errors.ts";
import type { LoadClass } from "#core/loadqueue.ts";
import { findRevision, type Model, type Revision } from "#core/model.ts";
import { describePlacement } from "#core/placement/place.ts";
import { chooseShrink } from "#core/placement/shrink.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { createBackoffs } from "./backoffs.ts";
import type { Decisions } from "./decisions.ts";
import type { Drops } from "./drops.ts";
import { codeOf, type Failure } from "./failure.ts";
import { type CopyChange, copyKey, type Fleet, loadPatienceMs } from "./fleet.ts";
import type { LoadAsk } from "./links.ts";
import { createPins, isPinned } from "./pins.ts";
import type { Placements } from "./placements.ts";
import type { Suspects } from "./suspects.ts";
import { classOf, countOf, isSpare, reasonOf, type Want } from "./wants.ts";

export interface WantOptions {
  /** Who wants them, when several may. */
  readonly by?: string;
  /** No copy that was used in the last half hour leaves for them. */
  readonly spareRoomOnly?: boolean;
}

export interface CopiesState {
  /** On pods that can be reached and stay. */
  readonly ready: number;
  readonly underWay: number;
  /** Why there are no more, while there are too few. */
  readonly failure?: Failure;
}

export interface Copies extends Disposable {
  /**
   * So many, until unwanted; to be called at every gateway, in whatever order, as often as one likes.
   */
  want(model: string, revision: string, count: number, loadClass: LoadClass, options?: WantOptions): void;
  /** The copies stay until their room is needed. */
  unwant(model: string, revision: string, by?: string): void;
  state(model: string, revision: string): CopiesState;
  /** Pods that were asked for a copy, and have not said yet that they are at it or have it. */
  asked(model: string, revision: string): Iterable<string>;
  /** Why there are no more of what is wanted. */
  failureOf(model: string, revision: string): Failure | undefined;
  /** Drops copies until `keep` are left; as many as are wanted stay in any case. */
  shrink(model: string, revision: string, keep: number): void;
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** The pod came, went, cannot be reached, or is being emptied. */
  onPod(podId: string): void;
  onRefused(podId: string, model: string, revision: string, code: ErrorCode, reason: string): void;
  onModel(model: string): void;
  /** Gateways came or went. */
  onMembers(): void;
  readonly wants: number;
}

export interface CopiesParts {
  readonly fleet: Fleet;
  readonly placements: Placements;
  readonly suspects: Suspects;
  readonly decisions: Decisions;
  readonly clock: Clock;
  readonly log: Log;
  readonly findModel: (name: string) => Model | undefined;
  readonly isHome: (model: string) => boolean;
  readonly sendLoad: (podId: string, model: string, revision: Revision, ask: LoadAsk) => void;
  readonly cancelLoad: (podId: string, model: string, revision: string) => void;
  readonly drops: Pick<Drops, "send" | "isHeld">;
  /** Requests per second, when known. */
  readonly rateOf?: (model: string) => number | undefined;
  /** A pod that has not answered a load for so long is passed over; 5 minutes when absent. */
  readonly patienceMs?: number;
}

/** For background loads a pod keeps copies used more recently than this. */
const minAgeMs = 10_000;
const spareAgeMs = 30 * 60_000;
/** A full fleet has no spare room soon. */
const sparePauseMs = 60_000;
const queueWaitMs = 120_000;
const retriesLater: readonly ErrorCode[] = ["model-load-failed", "storage-unavailable"];
/** How long a pod that failed is passed over. */
const exclusionMs = 15_000;

export function createCopies(parts: CopiesParts): Copies {
  const { fleet, placements, clock, log, patienceMs = 300_000 } = parts;
  const wants = new Map<string, Want>();
  const byModel = new Map<string, Set<Want>>();
  const askedOf = new Map<string, Set<Want>>();
  /** Those that would like another pod. */
  const lacking = new Set<Want>();
  // As many as wants: of one that was forgotten the pauses would begin anew, for ever.
  const backoffs = createBackoffs(clock, Number.POSITIVE_INFINITY);
  const pins = createPins(parts);

  function settled(want: Want, podId: string): boolean {
    const timer = want.asked.get(podId);
    if (timer === undefined) return false;
    clearTimeout(timer);
    want.asked.delete(podId);
    const others = askedOf.get(podId);
    others?.delete(want);
    if (others?.size === 0) askedOf.delete(podId);
    placements.answered(podId);
    return true;
  }

  function ask(want: Want, podId: string, model: Model, revision: Revision, loadClass: LoadClass): void {
    const late = (): void => failedOn(want, podId, { kind: "failed", code: "pod-failed", reason: `no answer of pod ${podId}` });
    want.asked.set(podId, setTimeout(late, loadPatienceMs(patienceMs, fleet.pod(podId)?.info)));
    askedOf.set(podId, (askedOf.get(podId) ?? new Set<Want>()).add(want));
    placements.asked(podId);
    const load = askUnasked(model, loadClass, Math.min(queueWaitMs, patienceMs), parts.rateOf?.(model.name));
    parts.sendLoad(podId, model.name, revision, load);
  }

  /** By the pods that are concerned alone, however many there are. */
  function standing(model: string, revision: string): { ready: string[]; coming: Set<string>; there: Set<string> } {
    const ready: string[] = [];
    const coming = new Set<string>();
    const there = new Set<string>();
    const key = copyKey({ model, revision });
    for (const { podId, copy } of fleet.holders(model)) {
      const pod = fleet.pod(podId);
      if (copy.revision !== revision || copy.state === "failed" || pod === undefined) continue;
      there.add(podId);
      if (parts.drops.isHeld(podId, key)) ready.push(podId);
      else if (pod.reachable && !pod.gauges.draining && (copy.state === "queued" || copy.state === "loading")) coming.add(podId);
    }
    for (const podId of wants.get(key)?.asked.keys() ?? []) coming.add(podId);
    return { ready, coming, there };
  }

  /** Asks for what is missing. */
  function fill(want: Want): void {
    lacking.delete(want);
    const model = parts.findModel(want.model);
    const revision = model === undefined ? undefined : findRevision(model, want.revision);
    if (model === undefined || revision === undefined || !parts.isHome(want.model)) return stand(want);
    const { ready, coming, there } = standing(want.model, want.revision);
    let missing = countOf(want, model) - ready.length - coming.size;
    if (missing <= 0) return undefined;
    const suspected = parts.suspects.check(want.key);
    if (suspected !== undefined) want.failure = suspected;
    const pause = suspected ?? backoffs.check(want.key);
    if (pause !== undefined) return later(want, pause.retryAfterMs ?? 0);
    const holders = new Set([...there, ...coming]);
    const spareOnly = isSpare(want);
    const sizeBytes = sizeOf(want) ?? revision.sizeHintBytes ?? 0;
    for (; missing > 0; missing--) {
      const requestsPerSecond = parts.rateOf?.(model.name);
      const age = spareOnly ? spareAgeMs : minAgeMs;
      const room = { excluded: want.excluded, holders, waitingUser: false, minAgeMs: age, sizeBytes };
      const needs = { ...room, requestsPerSecond, prefersNew: classOf(want) === "migrate" };
      const decision = placements.choose(model.name, revision, needs);
      if (decision.kind === "nowhere") {
        lacking.add(want);
        // What the last pod said of it is worth more than that it is passed over now.
        want.failure ??= { kind: "failed", code: decision.code, reason: describePlacement(decision) };
        return later(want, spareOnly ? sparePauseMs : backoffs.failed(want.key, want.failure));
      }
      holders.add(decision.podId);
      const { podId, keys } = decision;
      parts.decisions.record({ kind: "placed", model: want.model, revision: want.revision, reason: reasonOf(want), podId, keys });
      ask(want, decision.podId, model, revision, classOf(want));
    }
    return undefined;
  }

  /** What a copy elsewhere takes is what this one will take. */
  function sizeOf(want: Want): number | undefined {
    for (const { copy } of fleet.holders(want.model)) {
      if (copy.revision === want.revision && copy.state === "ready") return copy.sizeBytes;
    }
    return undefined;
  }

  function later(want: Want, pauseMs: number): void {
    clearTimeout(want.retry);
    want.retry = setTimeout(
      () => {
        want.retry = undefined;
        fill(want);
      },
      Math.max(1, pauseMs),
    );
  }

  /** Not this gateway's to see to, or not now. */
  function stand(want: Want): void {
    clearTimeout(want.retry);
    want.retry = undefined;
    for (const podId of Array.from(want.asked.keys())) settled(want, podId);
  }

  function failedOn(want: Want, podId: string, failure: Failure): void {
    settled(want, podId);
    want.failure = failure;
    if (!parts.isHome(want.model)) return undefined;
    const { code, reason } = failure;
    log.warn("a wanted copy could not be loaded", { model: want.model, revision: want.revision, podId, code, reason });
    parts.decisions.record({ kind: "refused", model: want.model, revision: want.revision, reason: `${code}: ${reason}`, podId });
    if (retriesLater.includes(failure.code)) return later(want, backoffs.failed(want.key, failure));
    want.excluded.set(podId, { reason: failure.reason, untilMs: clock.monotonicMs() + exclusionMs });
    return fill(want);
  }

  function forget(want: Want): void {
    clearTimeout(want.retry);
    lacking.delete(want);
    for (const podId of Array.from(want.asked.keys())) {
      settled(want, podId);
      parts.cancelLoad(podId, want.model, want.revision);
    }
    wants.delete(want.key);
    backoffs.succeeded(want.key);
    const others = byModel.get(want.model);
    others?.delete(want);
    if (others?.size === 0) byModel.delete(want.model);
  }

  return {
    want(model, revision, count, loadClass, { by = "", spareRoomOnly = false } = {}) {
      const key = copyKey({ model, revision });
      let want = wants.get(key);
      if (want === undefined) {
        want = {
          key,
          model,
          revision,
          by: new Map(),
          asked: new Map(),
          excluded: new Map(),
          failure: undefined,
          retry: undefined,
        };
        wants.set(key, want);
        byModel.set(model, (byModel.get(model) ?? new Set<Want>()).add(want));
      }
      const was = want.by.get(by);
      if (was?.count === count && was.loadClass === loadClass && was.spareRoomOnly === spareRoomOnly) return;
      want.by.set(by, { count, loadClass, spareRoomOnly });
      fill(want);
    },
    unwant(model, revision, by = "") {
      const want = wants.get(copyKey({ model, revision }));
      if (want?.by.delete(by) === true && want.by.size === 0) forget(want);
    },
    state(model, revision) {
      const want = wants.get(copyKey({ model, revision }));
      const { ready, coming } = standing(model, revision);
      const failure = want?.failure;
      return { ready: ready.length, underWay: coming.size, ...(failure === undefined ? {} : { failure }) };
    },
    asked: (model, revision) => wants.get(copyKey({ model, revision }))?.asked.keys() ?? [],
    failureOf: (model, revision) => wants.get(copyKey({ model, revision }))?.failure,
    shrink(model, revision, keep) {
      const want = wants.get(copyKey({ model, revision }));
      const least = want === undefined ? keep : Math.max(keep, countOf(want, parts.findModel(model)));
      const ready = new Set(standing(model, revision).ready);
      if (ready.size <= least) return;
      const holders = fleet.views().filter(({ podId }) => ready.has(podId));
      for (const podId of chooseShrink(holders, least)) parts.drops.send(podId, model, revision);
    },
    onCopies(podId, changes) {
      pins.onCopies(podId, changes);
      if (wants.size === 0) return;
      for (const change of changes) {
        const want = wants.get(copyKey(change));
        if (want === undefined) continue;
        if (change.state === "failed") {
          const { kind, reason } = change.failure ?? { kind: "pod", reason: "the adapter gave no reason" };
          failedOn(want, podId, { kind: "failed", code: codeOf(kind), reason });
          continue;
        }
        if (change.state === "ready") {
          settled(want, podId);
          want.failure = undefined;
          want.excluded.delete(podId);
          backoffs.succeeded(want.key);
        } else if (change.state === "gone" && settled(want, podId)) {
          failedOn(want, podId, { kind: "failed", code: "pod-failed", reason: `pod ${podId} gave it up` });
          continue;
        } else if (change.state === "gone" && isSpare(want)) {
          // Its room was wanted: at once it would only be asked for again.
          later(want, sparePauseMs);
          continue;
        }
        fill(want);
      }
    },
    onPod(podId) {
      pins.onPod(podId);
      const pod = fleet.pod(podId);
      const affected = new Set<Want>();
      if (pod?.reachable === true && !pod.gauges.draining) for (const want of lacking) affected.add(want);
      else {
        for (const want of askedOf.get(podId) ?? []) affected.add(want);
        for (const want of affected) settled(want, podId);
        // The smaller of the two is walked.
        const held = pod?.copies ?? new Map<string, unknown>();
        if (held.size < wants.size) for (const key of held.keys()) addKnown(affected, wants.get(key));
        else for (const want of wants.values()) if (held.has(want.key)) affected.add(want);
      }
      for (const want of affected) {
        if (pod?.reachable === true) want.excluded.delete(podId);
        fill(want);
      }
    },
    onRefused(podId, model, revision, code, reason) {
      const want = wants.get(copyKey({ model, revision }));
      if (want?.asked.has(podId) === true) failedOn(want, podId, { kind: "failed", code, reason });
    },
    onModel(model) {
      pins.onModel(model);
      for (const want of byModel.get(model) ?? []) fill(want);
    },
    onMembers() {
      pins.onMembers();
      for (const want of wants.values()) fill(want);
    },
    get wants() {
      return wants.size;
    },
    [Symbol.dispose]() {
      for (const want of wants.values()) stand(want);
      wants.clear();
    },
  };
}

/** A load that no request waits for. */
export function askUnasked(model: Model, loadClass: LoadClass, waitMs: number, requestsPerSecond: number | undefined): LoadAsk {
  const rate = requestsPerSecond === undefined ? {} : { requestsPerSecond };
  return { loadClass, priority: model.priority, waitMs, pinned: isPinned(model), ...rate };
}

function addKnown(set: Set<Want>, want: Want | undefined): void {
  if (want !== undefined) set.add(want);
}
