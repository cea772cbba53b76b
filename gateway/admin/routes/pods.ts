// Owns the pods that this gateway knows.
import { addRoute, ok, type RouteModule } from "../route.ts";
import type { GatewayState } from "../state.ts";

export function podRoutes(state: Pick<GatewayState, "pods">): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/pods",
      summary: "Every pod with its capacity, gauges and number of copies.",
      answers: { 200: "All pods." },
      handle: () => ok({ pods: state.pods() }),
    });
  };
}
