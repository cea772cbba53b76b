// Owns what becomes of a request that every pod of its placement set failed: the pods that say they hold the model are
// asked whether they really do; one that does gets the request, else the model is loaded anew. Either way the request
// goes to the cluster of one pod, from which there is no second reroute.
import type { Model, Revision } from "#core/model.ts";
import { podClusterName } from "#xds/main.ts";
import type { Fleet } from "./fleet.ts";
import type { EnsureOptions, Failure, Loads } from "./loads.ts";

export type Rerouted = { readonly kind: "found"; readonly cluster: string } | Failure;

export interface Reroutes {
  find(model: Model, revision: Revision, wire: "rest" | "grpc", options: EnsureOptions): Promise<Rerouted>;
}

export interface ReroutesParts {
  readonly fleet: Fleet;
  readonly loads: Loads;
  readonly verify: (podId: string, model: string, revision: string) => Promise<boolean>;
}

/** A copy may be lost again between its load and the request: so often it is tried anew. */
const maxRounds = 3;

export function createReroutes({ fleet, loads, verify }: ReroutesParts): Reroutes {
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
}
