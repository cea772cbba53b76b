// Owns the probes: is the process alive, does it serve.
import { addRoute, ok, type RouteModule, refuse } from "../route.ts";
import type { GatewayState } from "../state.ts";

/** `why`: what a gateway that is not ready waits for. */
export function healthRoutes(state: Pick<GatewayState, "isReady">, why = () => "the gateway is starting"): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/healthz",
      summary: "The process is alive.",
      isOpen: true,
      answers: { 200: "It is." },
      handle: () => ok({ ok: true }),
    });
    addRoute(app, {
      method: "GET",
      url: "/readyz",
      summary: "The gateway serves: its Envoy is connected.",
      isOpen: true,
      answers: { 200: "It does." },
      handle: () => (state.isReady() ? ok({ ready: true }) : refuse("unavailable", why())),
    });
  };
}
