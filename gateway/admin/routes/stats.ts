// Owns the gateway's counters.
import { addRoute, ok, type RouteModule } from "../route.ts";
import type { GatewayState } from "../state.ts";

export function statsRoutes(state: Pick<GatewayState, "stats">): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/stats",
      summary: "Counters and gauges of this gateway and the pods it is linked to.",
      answers: { 200: "As of now; counters since the gateway's start." },
      handle: async () => ok(await state.stats()),
    });
  };
}
