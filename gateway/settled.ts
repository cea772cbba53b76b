// Owns whether a model's clients are answered as its record says: by this gateway's Envoy, and by every gateway's.
import type { Model } from "#core/model.ts";
import type { Home } from "./home.ts";
import type { Peers } from "./peers.ts";
import type { Routes } from "./routes.ts";

export interface Settled {
  /** This gateway's record has this active revision, and its Envoy has acknowledged the routes that follow from it. */
  here(model: string, active: string): boolean;
  /** The gateways of which that cannot be said now, by name. */
  lagging(model: string, active: string): Promise<readonly string[]>;
}

export interface SettledParts {
  readonly gatewayId: string;
  readonly findModel: (name: string) => Model | undefined;
  readonly routes: Pick<Routes, "isSettled">;
  readonly home: Pick<Home, "members">;
  readonly peers: Pick<Peers, "isSettled">;
}

export function createSettled({ gatewayId, findModel, routes, home, peers }: SettledParts): Settled {
  const here = (model: string, active: string): boolean => findModel(model)?.active === active && routes.isSettled(model);
  return {
    here,
    async lagging(model, active) {
      const asked = Array.from(home.members(), async (member) => ({
        id: member.gatewayId,
        settled: await peers.isSettled(member, model, active),
      }));
      const all = [{ id: gatewayId, settled: here(model, active) }, ...(await Promise.all(asked))];
      return all.flatMap(({ id, settled }) => (settled ? [] : [id])).sort();
    },
  };
}
