// Owns what becomes of a request that every pod of its placement set failed: the pods that say they hold the model are
// asked whether they really do; one that does gets the request, else the model is loaded anew. Either way the request
// goes to the cluster of one pod, from which there is no second reroute.
import type { Model, Revision } from "#core/model.ts";
import { type Clock, sleep } from "#platform/clock.ts";
import { podClusterName } from "#xds/main.ts";
import type { Failure } from "./failure.ts";
import type { Fleet } from "./fleet.ts";
import type { EnsureOptions, Loads } from "./loads.ts";

export type Rerouted = { readonly kind: "found"; readonly cluster: string } | Failure;

export interface Reroutes {
  find(model: Model, revision: Revision, wire: "rest" | "grpc", options: EnsureOptions): Promise<Rerouted>;
}

export interface ReroutesParts {
  readonly fleet: Fleet;
  readonly loads: Loads;
  readonly clock: Clock;
  readonly verify: (podId: string, model: string, revision: string) => Promise<boolean>;
}

/**
 * A copy may be lost again between its load and the request, and for a moment after a model server's death its adapter
 * does not know of it: so often it is tried anew, at growing pauses, some 2 s in all.
 */
const maxRounds = 12;
const firstPauseMs = 5;
const longestPauseMs = 500;

export function createReroutes({ fleet, loads, clock, verify }: ReroutesParts): Reroutes {
  async function verified(model: Model, revision: Revision): Promise<string | undefined> {
    const asked = [...fleet.holders(model.name)]
      .filter(
        ({ podId, copy }) => copy.revision === revision.id && copy.state === "ready" && fleet.pod(podId)?.reachable === true,
      )
      .map(async ({ podId }) => ({ podId, ready: await verify(podId, model.name, revision.id) }));
    const answers = await Promise.all(asked);
    return answers.find(({ ready }) => ready)?.podId;
  }

  return {
    async find(model, revision, wire, options) {
      for (let round = 0; round < maxRounds; round++) {
        // What was loaded just now is asked for at once.
        const pauseMs = round < 2 ? 0 : Math.min(longestPauseMs, firstPauseMs * 2 ** (round - 2));
        const over = await pause(pauseMs, options);
        if (over !== undefined) return over;
        const step = options.span.step("verify");
        const podId = await verified(model, revision);
        step.end(podId === undefined ? "no pod holds it" : undefined);
        const pod = podId === undefined ? undefined : fleet.pod(podId);
        if (pod !== undefined) return { kind: "found", cluster: podClusterName(pod.info, wire) };
        const ensured = await loads.ensure(model, options);
        if (ensured.kind === "failed") return ensured;
      }
      return { kind: "failed", code: "pod-failed", reason: `model '${model.name}' was lost again and again` };
    },
  };

  /** Undefined when the request still waits after it. */
  async function pause(ms: number, { deadlineMs, signal }: EnsureOptions): Promise<Failure | undefined> {
    const leftMs = deadlineMs - clock.monotonicMs();
    if (ms > 0 && leftMs > 0) await sleep(Math.min(ms, leftMs), signal).catch(() => undefined);
    if (signal.aborted) return { kind: "failed", code: "cancelled", reason: "the client went away" };
    if (ms < leftMs) return undefined;
    return { kind: "failed", code: "deadline-exceeded", reason: "no pod was found to hold the model in time" };
  }
}
