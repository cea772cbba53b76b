// Owns the loads that requests wait for: one flight for each revision, however many requests wait for it.
//
//   asked --another gateway is the home--> asking it --ready, seen on a Link--> live
//     |                                       |  +--it failed--> failed
//     |<-------------- it does not answer ----+
//     v
//   place --Load sent--> loading --ready--> live
//     ^                     |
//     +--- another pod -----+--- no pod left, or the model itself is bad --> failed
//     +--- after a pause, all pods once more, when it was pods that failed ---+
//
// A request that has waited goes by the entry of the pod that is ready, which Envoy has had since that pod came. It does
// not wait for the model's own route: that would take longer, and even when Envoy has acknowledged a route, a worker of
// it that is busy may not see it yet.
// Invariants: at most one flight for a revision; every waiter is answered once, at its deadline at the latest; a flight
// without waiters ends and takes its load back; how many wait in all is bounded; a flight tries each pod at most once in
// each of a few rounds. A model that kills model servers is kept off the pods, whichever gateway asked for it: every
// gateway hears of each death on its Links.
import type { ErrorCode } from "#core/errors.ts";
import type { LoadClass } from "#core/loadqueue.ts";
import { activeRevision, type Model, type Priority, type Revision } from "#core/model.ts";
import { describePlacement } from "#core/placement/place.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { createBackoffs } from "./backoffs.ts";
import type { Decisions } from "./decisions.ts";
import { createReadyEntry } from "./entries.ts";
import { codeOf, type Failure } from "./failure.ts";
import { type Copy, type CopyChange, copyKey, type FailureKind, type Fleet, loadPatienceMs } from "./fleet.ts";
import { type Ensured, type Flight, isMoreUrgent, longestWaitMs, openFlight, type Urgency } from "./flight.ts";
import { createFlights } from "./flights.ts";
import type { Home } from "./home.ts";
import { createHomeAsks } from "./homeasks.ts";
import { createLandings } from "./landings.ts";
import type { LoadTimes } from "./linkmessages.ts";
import type { LoadAsk } from "./links.ts";
import { createParking } from "./parking.ts";
import type { Peers } from "./peers.ts";
import { isPinned } from "./pins.ts";
import type { Placements } from "./placements.ts";
import type { Quotas } from "./quotas.ts";
import type { Routes } from "./routes.ts";
import type { MissSpan } from "./spans.ts";
import type { Suspects } from "./suspects.ts";

export interface EnsureOptions {
  /** On the clock's monotonic scale. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly span: MissSpan;
  /** The active one when absent. */
  readonly revision?: Revision;
  /** `waiting-user` when absent. */
  readonly loadClass?: LoadClass;
  /** The model's own when absent. */
  readonly priority?: Priority | undefined;
  /** Decide in this gateway, whichever is the home. */
  readonly here?: boolean;
  /** Pods from one of which the request just came back without an answer. */
  readonly returnedFrom?: readonly string[];
  /** Whom its wait, and the load that it starts, count against; nobody when absent. */
  readonly tenant?: string;
}

export interface Loads {
  /** Resolves when the next request for the model is a hit, or says why it will not be. Never rejects. */
  ensure(model: Model, options: EnsureOptions): Promise<Ensured>;
  /** To be called with every change of copies, after the routes were refreshed. */
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** Before the change of the copy itself. */
  onLoadTimes(podId: string, times: LoadTimes): void;
  /** The pod does not answer: what was asked of it is asked of another. */
  onUnreachable(podId: string): void;
  onRefused(podId: string, model: string, revision: string, code: ErrorCode, reason: string): void;
  /** The model is not registered any more: nobody waits for it, and nothing is woken for it. */
  onUnregistered(model: string): void;
  /** Why requests for it are refused at once, while it is too early to try again. */
  failureOf(model: string, revision: string): Failure | undefined;
  readonly waiting: number;
  readonly flights: number;
  /** Whether requests wait for it here. */
  isFlying(model: string, revision: string): boolean;
}

export interface LoadsParts {
  readonly fleet: Fleet;
  readonly routes: Routes;
  readonly placements: Placements;
  readonly home: Pick<Home, "of" | "suspect">;
  /** Pods that this gateway has asked for a copy in the background. */
  readonly asked?: (model: string, revision: string) => Iterable<string>;
  /** Whether pods that could hold it are on their way: then a load waits for them. */
  readonly awaits?: (revision: Revision) => boolean;
  readonly peers: Pick<Peers, "ensure">;
  readonly suspects: Suspects;
  readonly decisions: Decisions;
  readonly clock: Clock;
  readonly log: Log;
  readonly sendLoad: (podId: string, model: string, revision: Revision, ask: LoadAsk) => void;
  readonly cancelLoad: (podId: string, model: string, revision: string) => void;
  /** Requests per second for the model, when known. */
  readonly rateOf?: (model: string) => number | undefined;
  /** A request of this gateway's own will not be answered. */
  readonly onMissed?: (model: string) => void;
  /** Nobody is held to anything when absent. */
  readonly quotas?: Pick<Quotas, "park" | "startLoad">;
  readonly maxWaiting: number;
  /** How long a load may take before another pod is tried, unless its pod takes longer. */
  readonly loadTimeoutMs: number;
}

const noHolders: ReadonlySet<string> = new Set();

/** An adapter or model server that died is back within a second or two: 0.1 + 0.2 + ... + 1.6 s. */
const maxRounds = 5;
const firstPauseMs = 100;
/** What another pod may mend. */
const mayArrive: ReadonlySet<ErrorCode> = new Set(["no-capacity", "no-pods", "no-runtime", "pod-failed"]);
/** Between two looks for a pod that is on its way. */
const awaitMs = 200;
/** Each may have let it wait for room: a fleet that is full says so soon. */
const maxFullPods = 3;

export function createLoads(parts: LoadsParts): Loads {
  const { fleet, routes, placements, decisions, clock } = parts;
  const flights = createFlights();
  const backoffs = createBackoffs(clock);
  const { assign, note, land, fail, goBy } = createLandings({ ...parts, flights, backoffs });
  const readyEntry = createReadyEntry(fleet, routes);

  /** Somebody holds it; or, when it is this gateway's to decide, is about to, or a pod is asked to. */
  function advance(flight: Flight): void {
    const { name } = flight.model;
    let underWay: string | undefined;
    let doubtful: string | undefined;
    for (const { podId, copy } of fleet.holders(name)) {
      if (copy.revision !== flight.revision.id || flight.excluded.has(podId)) continue;
      const pod = fleet.pod(podId);
      const reachable = pod?.reachable === true;
      if (copy.state === "ready" && reachable) return goBy(flight, podId);
      // Its adapter is gone. If the model server lives, this is as good; if not, only another pod will do.
      if (copy.state === "ready") doubtful = podId;
      if ((copy.state === "queued" || copy.state === "loading") && reachable) underWay = podId;
    }
    if (flight.leaveHome !== undefined) return;
    // A pod that was asked just now has not told of it yet: a second one would load the same.
    for (const podId of parts.asked?.(name, flight.revision.id) ?? []) {
      if (!flight.excluded.has(podId) && fleet.pod(podId)?.reachable === true) underWay ??= podId;
    }
    const chosen = underWay ?? choose(flight, doubtful);
    if (chosen === undefined) return;
    assign(flight, chosen);
    watch(flight, chosen);
    send(flight, chosen);
  }

  function send(flight: Flight, podId: string): void {
    const { model, loadClass, priority } = flight;
    const requestsPerSecond = parts.rateOf?.(model.name);
    flight.ask ??= flight.span.step("ask", { pod: podId, model: model.name, revision: flight.revision.id });
    parts.sendLoad(podId, model.name, flight.revision, {
      loadClass,
      priority,
      waitMs: Math.max(parts.loadTimeoutMs, longestWaitMs(flight, clock.monotonicMs())),
      pinned: isPinned(model),
      traceparent: flight.ask.traceparent,
      ...(requestsPerSecond === undefined ? {} : { requestsPerSecond }),
    });
  }

  /** The time of a load begins when it does: in a long queue it is as well off as in any other. */
  function watch(flight: Flight, podId: string): void {
    clearTimeout(flight.timer);
    const timeoutMs = loadPatienceMs(parts.loadTimeoutMs, fleet.pod(podId)?.info);
    flight.timer = setTimeout(() => {
      const queued = fleet.pod(podId)?.copies.get(flight.key)?.state === "queued";
      if (queued) watch(flight, podId);
      else tryElsewhere(flight, podId, "pod", `no answer within ${timeoutMs} ms`);
    }, timeoutMs);
  }

  function choose(flight: Flight, otherwise: string | undefined): string | undefined {
    const { excluded } = flight;
    const needs = { excluded, holders: noHolders, waitingUser: flight.loadClass === "waiting-user", minAgeMs: 0 };
    const requestsPerSecond = parts.rateOf?.(flight.model.name);
    const step = flight.span.step("place");
    const decision = placements.choose(flight.model.name, flight.revision, { ...needs, requestsPerSecond });
    if (decision.kind === "placed") step.set({ pod: decision.podId });
    step.end(decision.kind === "placed" ? undefined : decision.code);
    const { name } = flight.model;
    if (decision.kind === "placed") {
      const { podId, keys } = decision;
      decisions.record({ kind: "placed", model: name, revision: flight.revision.id, reason: "for a request", podId, keys });
      return podId;
    }
    const described = describePlacement(decision);
    const failure = flight.worst ?? { kind: "failed", code: decision.code, reason: described };
    note(flight, "nowhere", described);
    if (otherwise !== undefined) goBy(flight, otherwise);
    else if (!mayTryAgain(flight, failure)) fail(flight, failure);
    return undefined;
  }

  /** Pods that failed may be themselves again soon. True when the flight goes on after a pause. */
  function mayTryAgain(flight: Flight, { code }: Failure): boolean {
    if (mayArrive.has(code) && parts.awaits?.(flight.revision) === true) {
      clearTimeout(flight.timer);
      flight.worst = undefined;
      flight.timer = setTimeout(() => {
        flight.excluded.clear();
        advance(flight);
      }, awaitMs);
      return true;
    }
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
    // What the home has asked for is the home's to judge.
    if (flight.podId !== podId) return;
    assign(flight, undefined, reason);
    exclude(flight, podId, { kind: "failed", code: codeOf(kind), reason });
    // A bad model fails everywhere: it is not carried from pod to pod.
    const known = parts.suspects.check(flight.key);
    if (known !== undefined) fail(flight, known);
    else if (flight.worst !== undefined && (kind === "model" || flight.fullPods >= maxFullPods)) fail(flight, flight.worst);
    else advance(flight);
  }

  function exclude(flight: Flight, podId: string, failure: Failure): void {
    note(flight, "refused", `${failure.code}: ${failure.reason}`, podId);
    flight.excluded.set(podId, { reason: failure.reason, untilMs: Number.POSITIVE_INFINITY });
    // What found no memory may have taken its model server with it: it is tried on a few pods, not on all.
    flight.fullPods += failure.code === "no-capacity" || failure.code === "quota-exceeded" ? 1 : 0;
    flight.worst = failure;
  }

  /** A more urgent request joins a flight. */
  function raise(flight: Flight, { loadClass, priority }: Urgency, here: boolean): void {
    const more = isMoreUrgent({ loadClass, priority }, flight);
    if (more) Object.assign(flight, { loadClass, priority });
    if (here && flight.leaveHome !== undefined) {
      // Whoever asks believes this gateway to be the home: if that one asked back, both would wait for ever.
      flight.leaveHome();
      flight.leaveHome = undefined;
      advance(flight);
    } else if (more && flight.leaveHome !== undefined) homes.decide(flight);
    else if (more && flight.podId !== undefined) send(flight, flight.podId);
  }

  function takeBack({ podId, model, revision }: Flight): void {
    if (podId === undefined) return;
    const inBackground = Array.from(parts.asked?.(model.name, revision.id) ?? []).includes(podId);
    // To the pod this gateway asks once, for whatever reasons.
    if (!inBackground) parts.cancelLoad(podId, model.name, revision.id);
  }

  const homes = createHomeAsks({ ...parts, backoffs, note, advance, land: (flight, failure) => land(flight, () => failure) });
  const parking = createParking(clock, (flight) => {
    if (flights.get(flight.key) !== flight) return;
    takeBack(flight);
    land(flight, () => ({ kind: "failed", code: "cancelled", reason: "nobody waits any more" }));
  });

  return {
    async ensure(model, options) {
      const result = await ensureCopy(model, options);
      if (result.kind === "failed" && options.here !== true) parts.onMissed?.(model.name);
      return result;
    },
    onCopies(podId, changes) {
      for (const change of changes) {
        const flight = flights.get(copyKey(change));
        if (flight === undefined) continue;
        if (change.state === "loading" && flight.podId === podId) flight.ask?.mark("loading");
        if (change.state === "ready") advance(flight);
        else if (change.state === "failed") tryElsewhere(flight, podId, change.failure?.kind ?? "pod", reasonOf(change));
        else if (change.state === "gone") tryElsewhere(flight, podId, "pod", `pod ${podId} gave it up`);
      }
    },
    onLoadTimes(podId, times) {
      const flight = flights.get(copyKey(times));
      // Where another gateway decides, it is what was waited for as well.
      if (flight?.podId === podId) flight.ask?.divide(times.parts, { pod: podId });
      else if (flight?.leaveHome !== undefined) flight.home?.divide(times.parts, { pod: podId });
    },
    onUnreachable(podId) {
      for (const flight of flights.all()) {
        if (flight.podId !== podId) continue;
        assign(flight, undefined, "the pod cannot be reached");
        flight.worst = { kind: "failed", code: "pod-failed", reason: `pod ${podId} cannot be reached` };
        advance(flight);
      }
    },
    onRefused(podId, model, revision, code, reason) {
      const flight = flights.get(copyKey({ model, revision }));
      if (flight === undefined || flight.podId !== podId) return;
      assign(flight, undefined, reason);
      const failure: Failure = { kind: "failed", code, reason };
      exclude(flight, podId, failure);
      if (flight.fullPods >= maxFullPods) fail(flight, failure);
      else advance(flight);
    },
    onUnregistered(model) {
      for (const flight of flights.of(model)) {
        takeBack(flight);
        const reason = `Model ${model} not found: it was unregistered meanwhile`;
        land(flight, () => ({ kind: "failed", code: "model-not-found", reason }));
      }
    },
    failureOf: (model, revision) => backoffs.check(copyKey({ model, revision })),
    get waiting() {
      return parking.waiting;
    },
    isFlying: (model, revision) => flights.get(copyKey({ model, revision })) !== undefined,
    get flights() {
      return flights.size;
    },
  };

  async function ensureCopy(model: Model, options: EnsureOptions): Promise<Ensured> {
    const { revision = activeRevision(model), loadClass = "waiting-user", here = false } = options;
    const urgency = { loadClass, priority: options.priority ?? model.priority ?? "normal" };
    const key = copyKey({ model: model.name, revision: revision.id });
    const keptOff = parts.suspects.check(key);
    if (keptOff !== undefined) return keptOff;
    const known = flights.get(key);
    const entry = known === undefined ? readyEntry(model, revision) : undefined;
    if (entry !== undefined) return { kind: "live", waitedMs: 0, entry };
    if (parking.waiting >= parts.maxWaiting) {
      return {
        kind: "failed",
        code: "queue-full",
        reason: `${parking.waiting} requests are waiting already`,
        retryAfterMs: 1_000,
      };
    }
    const bad = known === undefined ? backoffs.check(key) : undefined;
    if (bad !== undefined) return bad;
    const parked = options.tenant === undefined ? undefined : parts.quotas?.park(options.tenant);
    if (parked?.kind === "failed") return parked;
    if (known !== undefined) {
      const result = parking.wait(known, options, options.span.step("park", { joined: true }), parked);
      raise(known, urgency, here);
      return result;
    }
    const copy = { model: model.name, revision: revision.id };
    const held = options.tenant === undefined ? undefined : parts.quotas?.startLoad(options.tenant, copy);
    if (held?.kind === "failed") {
      parked?.release();
      return held;
    }
    const step = options.span.step("park");
    const flight = openFlight({ key, model, revision, ...urgency, span: step, held, returnedFrom: options.returnedFrom });
    flights.add(flight);
    const result = parking.wait(flight, options, step, parked);
    if (here) advance(flight);
    else homes.decide(flight);
    return result;
  }
}

function reasonOf(copy: Pick<Copy, "failure">): string {
  return copy.failure?.reason ?? "the adapter gave no reason";
}
