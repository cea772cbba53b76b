// Owns the loads that requests wait for: one flight for each model, however many requests wait for it.
//
//   place --Load sent--> loading --ready--> live
//     ^                     |
//     +--- another pod -----+--- no pod left, or the model itself is bad --> failed
//     +--- after a pause, all pods once more, when it was pods that failed ---+
//
// A request that has waited goes by the entry of the pod that is ready, which Envoy has had since that pod came. It does
// not wait for the model's own route: that would take longer, and even when Envoy has acknowledged a route, a worker of
// it that is busy may not see it yet.
// Invariants: at most one flight for a model; every waiter is answered once, at its deadline at the latest; a flight
// without waiters ends and takes its load back; how many wait in all is bounded; a flight tries each pod at most once in
// each of a few rounds.
import type { ErrorCode } from "#core/errors.ts";
import { activeRevision, type Model, type Revision } from "#core/model.ts";
import { describePlacement } from "#core/placement/place.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { createBackoffs } from "./backoffs.ts";
import { codeOf, type Failure } from "./failure.ts";
import { type Copy, type CopyChange, copyKey, type FailureKind, type Fleet } from "./fleet.ts";
import type { LoadAsk } from "./links.ts";
import type { Placements } from "./placements.ts";
import type { Routes } from "./routes.ts";
import type { MissSpan } from "./spans.ts";

export interface Live {
  readonly kind: "live";
  readonly waitedMs: number;
  /** The scope key that leads to a pod which holds the model. */
  readonly entry: string;
}

export type Ensured = Live | Failure;

export interface EnsureOptions {
  /** On the clock's monotonic scale. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly span: MissSpan;
  /** The active one when absent. */
  readonly revision?: Revision;
}

export interface Loads {
  /** Resolves when the next request for the model is a hit, or says why it will not be. Never rejects. */
  ensure(model: Model, options: EnsureOptions): Promise<Ensured>;
  /** To be called with every change of copies, after the routes were refreshed. */
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** The pod does not answer: what was asked of it is asked of another. */
  onUnreachable(podId: string): void;
  onRefused(podId: string, model: string, revision: string, code: ErrorCode, reason: string): void;
  readonly waiting: number;
  readonly flights: number;
}

export interface LoadsParts {
  readonly fleet: Fleet;
  readonly routes: Routes;
  readonly placements: Placements;
  readonly clock: Clock;
  readonly log: Log;
  readonly sendLoad: (podId: string, model: string, revision: Revision, ask: LoadAsk) => void;
  readonly cancelLoad: (podId: string, model: string, revision: string) => void;
  readonly maxWaiting: number;
  /** How long a load may take before another pod is tried. */
  readonly loadTimeoutMs: number;
}

interface Flight {
  readonly key: string;
  readonly model: Model;
  readonly revision: Revision;
  /** Pods that are out of question, and why. */
  readonly excluded: Map<string, { readonly reason: string; readonly untilMs: number }>;
  readonly waiters: Set<Waiter>;
  readonly stop: AbortController;
  podId: string | undefined;
  timer: NodeJS.Timeout | undefined;
  worst: Failure | undefined;
  /** How often it has been through all pods. */
  rounds: number;
}

interface Waiter {
  readonly arrivedMs: number;
  readonly answer: (result: Ensured) => void;
}

/** Made once: an abort without a reason makes an error with a stack trace, each time. */
const landed = new Error("the flight has landed");
const noHolders: ReadonlySet<string> = new Set();

/** An adapter or model server that died is back within a second or two: 0.1 + 0.2 + ... + 1.6 s. */
const maxRounds = 5;
const firstPauseMs = 100;

export function createLoads(parts: LoadsParts): Loads {
  const { fleet, routes, clock, log } = parts;
  const flights = new Map<string, Flight>();
  const backoffs = createBackoffs(clock);
  let waiting = 0;
  let turn = 0;

  function assign(flight: Flight, podId: string | undefined): void {
    if (flight.podId !== undefined) parts.placements.answered(flight.podId);
    flight.podId = podId;
    if (podId !== undefined) parts.placements.asked(podId);
  }

  function start(key: string, model: Model, revision: Revision): Flight {
    const flight: Flight = {
      key,
      model,
      revision,
      excluded: new Map(),
      waiters: new Set(),
      stop: new AbortController(),
      podId: undefined,
      timer: undefined,
      worst: undefined,
      rounds: 0,
    };
    flights.set(key, flight);
    return flight;
  }

  function land(flight: Flight, result: (waiter: Waiter) => Ensured): void {
    if (flights.get(flight.key) === flight) flights.delete(flight.key);
    clearTimeout(flight.timer);
    assign(flight, undefined);
    flight.stop.abort(landed);
    for (const waiter of Array.from(flight.waiters)) waiter.answer(result(waiter));
  }

  function fail(flight: Flight, failure: Failure): void {
    const retryAfterMs = backoffs.failed(flight.key, failure);
    log.warn("a load failed", {
      model: flight.model.name,
      revision: flight.revision.id,
      code: failure.code,
      reason: failure.reason,
    });
    land(flight, () => ({ ...failure, retryAfterMs }));
  }

  async function finish(flight: Flight, podId: string): Promise<void> {
    const entry = routes.entry(podId, flight.revision.slot);
    // The pod was given up this moment: its copies are gone next, or the load's own time ends; either moves the flight on.
    if (entry === undefined) return;
    clearTimeout(flight.timer);
    flight.timer = undefined;
    assign(flight, undefined);
    await routes.whenSettled(entry, flight.stop.signal);
    backoffs.succeeded(flight.key);
    const nowMs = clock.monotonicMs();
    land(flight, (waiter) => ({ kind: "live", waitedMs: nowMs - waiter.arrivedMs, entry }));
  }

  /** Somebody holds it, or is about to, or a pod is asked to. */
  function advance(flight: Flight): void {
    const { name } = flight.model;
    let underWay: string | undefined;
    let doubtful: string | undefined;
    for (const { podId, copy } of fleet.holders(name)) {
      if (copy.revision !== flight.revision.id || flight.excluded.has(podId)) continue;
      const reachable = fleet.pod(podId)?.reachable === true;
      if (copy.state === "ready" && reachable) return goBy(flight, podId);
      // Its adapter is gone. If the model server lives, this is as good; if not, only another pod will do.
      if (copy.state === "ready") doubtful = podId;
      if ((copy.state === "queued" || copy.state === "loading") && reachable) underWay = podId;
    }
    const chosen = underWay ?? choose(flight, doubtful);
    if (chosen === undefined) return;
    assign(flight, chosen);
    clearTimeout(flight.timer);
    flight.timer = setTimeout(
      () => tryElsewhere(flight, chosen, "pod", `no answer within ${parts.loadTimeoutMs} ms`),
      parts.loadTimeoutMs,
    );
    parts.sendLoad(chosen, name, flight.revision, { loadClass: "waiting-user", waitMs: parts.loadTimeoutMs });
  }

  function goBy(flight: Flight, podId: string): void {
    // Stopping the wait is the only way it rejects, and then the flight has landed.
    finish(flight, podId).catch(() => undefined);
  }

  function choose(flight: Flight, otherwise: string | undefined): string | undefined {
    const { excluded } = flight;
    const needs = { excluded, holders: noHolders, waitingUser: true, minAgeMs: 0 };
    const decision = parts.placements.choose(flight.model.name, flight.revision, needs);
    if (decision.kind === "placed") return decision.podId;
    const failure = flight.worst ?? { kind: "failed", code: decision.code, reason: describePlacement(decision) };
    if (otherwise !== undefined) goBy(flight, otherwise);
    else if (!mayTryAgain(flight, failure)) fail(flight, failure);
    return undefined;
  }

  /** Pods that failed may be themselves again soon. True when the flight goes on after a pause. */
  function mayTryAgain(flight: Flight, { code }: Failure): boolean {
    const podsAtFault = code === "pod-failed" || code === "no-pods";
    if (!podsAtFault || flight.rounds >= maxRounds || fleet.pods().next().done === true) return false;
    clearTimeout(flight.timer);
    flight.timer = setTimeout(
      () => {
        flight.excluded.clear();
        advance(flight);
      },
      firstPauseMs * 2 ** flight.rounds,
    );
    flight.rounds += 1;
    return true;
  }

  function tryElsewhere(flight: Flight, podId: string, kind: FailureKind, reason: string): void {
    if (flight.podId !== podId) return;
    assign(flight, undefined);
    flight.excluded.set(podId, { reason, untilMs: Number.POSITIVE_INFINITY });
    const failure: Failure = { kind: "failed", code: codeOf(kind), reason };
    flight.worst = failure;
    // A bad model fails everywhere: it is not carried from pod to pod.
    if (kind === "model") fail(flight, failure);
    else advance(flight);
  }

  function leave(flight: Flight, waiter: Waiter): void {
    if (!flight.waiters.delete(waiter)) return;
    waiting -= 1;
    if (flight.waiters.size > 0 || flights.get(flight.key) !== flight) return;
    if (flight.podId !== undefined) parts.cancelLoad(flight.podId, flight.model.name, flight.revision.id);
    land(flight, () => ({ kind: "failed", code: "cancelled", reason: "nobody waits any more" }));
  }

  async function wait(flight: Flight, options: EnsureOptions): Promise<Ensured> {
    const { promise, resolve } = Promise.withResolvers<Ensured>();
    const arrivedMs = clock.monotonicMs();
    const waiter: Waiter = { arrivedMs, answer: resolve };
    flight.waiters.add(waiter);
    waiting += 1;
    const late = setTimeout(
      () => resolve({ kind: "failed", code: "deadline-exceeded", reason: `model '${flight.model.name}' was not ready in time` }),
      Math.max(0, options.deadlineMs - arrivedMs),
    );
    const step = options.span.step("load");
    const gone = (): void => resolve({ kind: "failed", code: "cancelled", reason: "the client went away" });
    options.signal.addEventListener("abort", gone, { once: true });
    try {
      const result = await promise;
      step.end(result.kind === "failed" ? result.code : undefined);
      return result;
    } finally {
      clearTimeout(late);
      options.signal.removeEventListener("abort", gone);
      leave(flight, waiter);
    }
  }

  return {
    async ensure(model, options) {
      const { revision = activeRevision(model) } = options;
      const key = copyKey({ model: model.name, revision: revision.id });
      const known = flights.get(key);
      const entry = known === undefined ? readyEntry(model, revision) : undefined;
      if (entry !== undefined) return { kind: "live", waitedMs: 0, entry };
      if (waiting >= parts.maxWaiting) {
        return { kind: "failed", code: "queue-full", reason: `${waiting} requests are waiting already`, retryAfterMs: 1_000 };
      }
      if (known !== undefined) return wait(known, options);
      const bad = backoffs.check(key);
      if (bad !== undefined) return bad;
      const flight = start(key, model, revision);
      const result = wait(flight, options);
      advance(flight);
      return result;
    },
    onCopies(podId, changes) {
      for (const change of changes) {
        const flight = flights.get(copyKey(change));
        if (flight === undefined) continue;
        if (change.state === "ready") advance(flight);
        else if (change.state === "failed") tryElsewhere(flight, podId, change.failure?.kind ?? "pod", reasonOf(change));
        else if (change.state === "gone") tryElsewhere(flight, podId, "pod", `pod ${podId} gave it up`);
      }
    },
    onUnreachable(podId) {
      for (const flight of Array.from(flights.values())) {
        if (flight.podId !== podId) continue;
        assign(flight, undefined);
        flight.worst = { kind: "failed", code: "pod-failed", reason: `pod ${podId} cannot be reached` };
        advance(flight);
      }
    },
    onRefused(podId, model, revision, code, reason) {
      const flight = flights.get(copyKey({ model, revision }));
      if (flight === undefined || flight.podId !== podId) return;
      assign(flight, undefined);
      flight.excluded.set(podId, { reason, untilMs: Number.POSITIVE_INFINITY });
      flight.worst = { kind: "failed", code, reason };
      advance(flight);
    },
    get waiting() {
      return waiting;
    },
    get flights() {
      return flights.size;
    },
  };

  /** Of a pod that holds it ready, one after the other. */
  function readyEntry(model: Model, revision: Revision): string | undefined {
    const ready: string[] = [];
    for (const { podId, copy } of fleet.holders(model.name)) {
      if (copy.revision !== revision.id || copy.state !== "ready" || fleet.pod(podId)?.reachable !== true) continue;
      const entry = routes.entry(podId, revision.slot);
      if (entry !== undefined && routes.isSettled(entry)) ready.push(entry);
    }
    turn += 1;
    return ready[turn % ready.length];
  }
}

function reasonOf(copy: Pick<Copy, "failure">): string {
  return copy.failure?.reason ?? "the adapter gave no reason";
}
