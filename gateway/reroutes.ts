// Owns what becomes of a request that every pod of its placement set failed: the pods that say they hold the model are
// asked whether they really do; one that does gets the request, else the model is loaded anew. Either way the request
// goes to the cluster of one pod. It may fail there too, since on a full fleet a copy may be evicted while the request is on its
// way; then it comes here a second time, and not a third. One that is silent there comes again each time.
//
// A request whose first try has said nothing yet, and goes on, waits here beside it: as long as the pods of its set are
// well it is a long inference, and must not be computed twice. Who says otherwise are the owners of that knowledge: the
// Link of a silent adapter breaks, and an adapter whose model server is silent takes its copies back. A connection to a model
// server that was lost since says nothing either, though the next one under its address is well. Then another pod is looked
// for, for a while again and again: what the client would hear instead cuts off a first try that may yet answer.
import type { ErrorCode } from "#core/errors.ts";
import type { Model, Revision } from "#core/model.ts";
import type { Patience } from "#core/patience.ts";
import { type Clock, sleep } from "#platform/clock.ts";
import { isPodCluster, podClusterName } from "#xds/main.ts";
import type { Failure } from "./failure.ts";
import { type Copy, copyKey, type Fleet } from "./fleet.ts";
import type { EnsureOptions, Loads } from "./loads.ts";
import type { Suspects } from "./suspects.ts";

/** Where a rerouted request goes: to one pod. */
export interface RerouteTarget {
  readonly cluster: string;
  /** Of the revision there. */
  readonly slot: number;
  /** Its model server takes a header for what all messages of a stream mean. */
  readonly streamsByHeader: boolean;
  /** Methods whose messages must name the model, and where. */
  readonly idInjections?: ReadonlyMap<string, string> | undefined;
}

/** Where it comes from. */
export interface RerouteOrigin {
  readonly wire: "rest" | "grpc";
  /** The cluster where it failed. */
  readonly from: string;
}

export type Rerouted = { readonly kind: "found"; readonly to: RerouteTarget } | Failure;

/** `left`: the first try goes on, and what it says is the answer. */
export type Hedged = Rerouted | { readonly kind: "left"; readonly failure: Failure };

export interface Reroutes {
  find(model: Model, revision: Revision, origin: RerouteOrigin, options: EnsureOptions): Promise<Rerouted>;
  /** As find, of a request whose first try goes on: once one of the pods where that may be is lost. */
  hedge(model: Model, revision: Revision, origin: RerouteOrigin, options: EnsureOptions): Promise<Hedged>;
}

export interface ReroutesParts {
  readonly fleet: Fleet;
  readonly loads: Loads;
  readonly suspects: Pick<Suspects, "check" | "onReturned">;
  readonly clock: Clock;
  /** The pods of a cluster, of a set or of a pod alone; undefined when there is none such any more. */
  readonly podsOf: (cluster: string) => readonly string[] | undefined;
  /** Whether a request that went to this cluster is where its pods' model servers are now. */
  readonly isCurrent: (cluster: string) => boolean;
  readonly verify: (podId: string, model: string, revision: string) => Promise<boolean>;
  readonly patienceOf: (model: string) => Patience;
  /** A hedge waited so long beside pods that were well and whose model servers answered, and was not needed. */
  readonly onOutlasted: (model: string, patience: Patience, heldMs: number) => void;
}

/**
 * A copy may be lost again between its load and the request, and for a moment after a model server's death its adapter
 * does not know of it: so often it is tried anew at least, at growing pauses.
 */
const leastRounds = 12;
/**
 * And so long at least: the routes of a pod that is gone with its adapter stay for a while, in which nobody can say whether its
 * model server lives; then the model is loaded elsewhere, or a pod is woken for it.
 */
const leastMs = 8_000;
const firstPauseMs = 5;
const longestPauseMs = 500;
/** Between two looks at a pod that says nothing. */
const lookMs = 250;
/** Between two questions to the same pod, however many requests wait for it. */
const askMs = 1_000;
/** So long another pod is looked for in place of a lost one, before the client hears that there is none. */
const insistMs = 15_000;
/** Nothing becomes of waiting for another answer. */
const isFinal: ReadonlySet<ErrorCode> = new Set(["cancelled", "deadline-exceeded", "model-load-failed"]);

export function createReroutes(parts: ReroutesParts): Reroutes {
  const { fleet, loads, suspects, clock, podsOf, verify } = parts;
  /** Pods that were asked of late, when, and whether their model servers answered: there are no more of them than pods. */
  const asked = new Map<string, { readonly atMs: number; readonly answer: Promise<boolean> }>();

  /** So that an adapter hears that its model server may be silent. What it answers its holding says as well. */
  function ask(podId: string, { model, revision }: Pick<Copy, "model" | "revision">): void {
    const atMs = clock.monotonicMs();
    if (atMs - (asked.get(podId)?.atMs ?? -Infinity) < askMs) return;
    for (const known of asked.keys()) if (fleet.pod(known) === undefined) asked.delete(known);
    asked.set(podId, { atMs, answer: verify(podId, model, revision) });
  }

  /**
   * Whether all pods of the cluster answered what they were asked beside a hedge that began at `startMs`, or just before: by
   * then its request had been silent for longer than between two questions, so it is the inference that takes long.
   */
  async function answered(cluster: string, startMs: number): Promise<boolean> {
    const questions = podsBehind(cluster).map((podId) => asked.get(podId));
    for (const question of questions)
      if (question === undefined || question.atMs < startMs - askMs || !(await question.answer)) return false;
    return questions.length > 0;
  }

  /** Reachable, and with a copy of the model, whichever revision the request went to. */
  function isWell(podId: string, model: Model): boolean {
    if (fleet.pod(podId)?.reachable !== true) return false;
    for (const holder of fleet.holders(model.name)) {
      if (holder.podId !== podId || (holder.copy.state !== "ready" && holder.copy.state !== "leaving")) continue;
      if (holder.copy.state === "ready") ask(podId, holder.copy);
      return true;
    }
    return false;
  }

  async function verified(model: Model, revision: Revision): Promise<string | undefined> {
    const asked = fleet
      .readyPods(model.name, revision.id)
      .filter((podId) => fleet.pod(podId)?.reachable === true)
      .map(async (podId) => ({ podId, ready: await verify(podId, model.name, revision.id) }));
    const answers = await Promise.all(asked);
    return answers.find(({ ready }) => ready)?.podId;
  }

  /**
   * Resolves when one of the pods of the cluster, to which the first try went, may be lost, or the request is over; `waited`
   * when all were well before.
   */
  async function outlast(
    model: Model,
    cluster: string,
    options: EnsureOptions,
  ): Promise<{ readonly waited: boolean; readonly over?: Failure }> {
    for (let waited = false; ; waited = true) {
      const pods = podsOf(cluster);
      const isLost = pods === undefined || !parts.isCurrent(cluster) || !pods.every((podId) => isWell(podId, model));
      if (isLost) return { waited };
      const over = await pause(lookMs, options);
      if (over !== undefined) return { waited: true, over };
    }
  }

  const podsBehind = (cluster: string): readonly string[] => podsOf(cluster) ?? [];

  function returned(model: Model, revision: Revision, { from }: RerouteOrigin): void {
    suspects.onReturned({ model: model.name, revision: revision.id }, podsBehind(from));
  }

  return {
    find(model, revision, origin, options) {
      returned(model, revision, origin);
      return find(model, revision, origin, options);
    },
    async hedge(model, revision, origin, options) {
      const patience = isPodCluster(origin.from) ? 0 : parts.patienceOf(model.name);
      const startMs = clock.monotonicMs();
      let lostMs: number | undefined;
      for (;;) {
        const { waited, over } = await outlast(model, origin.from, options);
        const nowMs = clock.monotonicMs();
        if (over !== undefined) {
          // A client that gives up on a server that stands still leaves as well.
          if (lostMs === undefined && over.code === "cancelled" && (await answered(origin.from, startMs)))
            parts.onOutlasted(model.name, patience, nowMs - startMs);
          return { kind: "left", failure: over };
        }
        // One that was well in between is lost anew.
        if (lostMs === undefined || waited) {
          lostMs = nowMs;
          returned(model, revision, origin);
        }
        const found = await find(model, revision, origin, options);
        if (found.kind === "found" || isFinal.has(found.code) || clock.monotonicMs() - lostMs >= insistMs) return found;
        const late = await pause(longestPauseMs, options);
        if (late !== undefined) return late;
      }
    },
  };

  async function find(
    model: Model,
    revision: Revision,
    { wire, from }: RerouteOrigin,
    options: EnsureOptions,
  ): Promise<Rerouted> {
    const returnedFrom = podsBehind(from);
    const startMs = clock.monotonicMs();
    for (let round = 0; round < leastRounds || clock.monotonicMs() - startMs < leastMs; round++) {
      // What was loaded just now is asked for at once.
      const pauseMs = round < 2 ? 0 : Math.min(longestPauseMs, firstPauseMs * 2 ** (round - 2));
      const over = await pause(pauseMs, options);
      if (over !== undefined) return over;
      const step = options.span.step("verify");
      const podId = await verified(model, revision);
      step.end(podId === undefined ? "no pod holds it" : undefined);
      // Two servers that died of it are enough. Their adapters have said so by the time that a pod is found.
      const keptOff = suspects.check(copyKey({ model: model.name, revision: revision.id }));
      if (keptOff !== undefined) return keptOff;
      const pod = podId === undefined ? undefined : fleet.pod(podId);
      if (pod !== undefined) {
        const { streamsByHeader = false, idInjections } = pod.info;
        const cluster = podClusterName(pod.info, wire, isPodCluster(from) ? 3 : 2);
        return { kind: "found", to: { cluster, slot: revision.slot, streamsByHeader, idInjections } };
      }
      const ensured = await loads.ensure(model, round === 0 ? { ...options, returnedFrom } : options);
      if (ensured.kind === "failed") return ensured;
    }
    return { kind: "failed", code: "pod-failed", reason: `model '${model.name}' was lost again and again` };
  }

  /** Undefined when the request still waits after it. */
  async function pause(ms: number, { deadlineMs, signal }: EnsureOptions): Promise<Failure | undefined> {
    const leftMs = deadlineMs - clock.monotonicMs();
    if (ms > 0 && leftMs > 0) await sleep(Math.min(ms, leftMs), signal).catch(() => undefined);
    if (signal.aborted) return { kind: "failed", code: "cancelled", reason: "the client went away" };
    if (ms < leftMs) return undefined;
    return { kind: "failed", code: "deadline-exceeded", reason: "no pod was found to hold the model in time" };
  }
}
