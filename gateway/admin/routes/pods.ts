// Owns the pods and gateways that this gateway knows, and the request to empty a pod.
import { addRoute, ok, type RouteModule, refuse } from "../route.ts";
import type { GatewayState } from "../state.ts";

export function podRoutes(state: Pick<GatewayState, "pods" | "startDrain" | "gateways">): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/pods",
      summary: "Every pod with its capacity, gauges and number of copies.",
      answers: { 200: "All pods." },
      handle: () => ok({ pods: state.pods() }),
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/pods/:pod",
      summary: "One pod.",
      answers: { 200: "The pod." },
      handle: ({ params: { pod = "" } }) => {
        const found = state.pods().find(({ podId }) => podId === pod);
        return found === undefined ? unknown(pod) : ok(found);
      },
    });
    addRoute(app, {
      method: "POST",
      url: "/api/v1/pods/:pod/drain",
      summary: "Empty a pod: its models move elsewhere first, and it takes no more.",
      answers: { 202: "It is being emptied; its gauges tell how far it is." },
      handle: ({ params: { pod = "" } }) => {
        switch (state.startDrain(pod)) {
          case "started":
            return ok({ pod, draining: true }, 202);
          case "unreachable":
            return refuse("unavailable", `pod '${pod}' cannot be reached now`);
          case "unknown":
            return unknown(pod);
        }
      },
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/gateways",
      summary: "The gateways that are there, this one first.",
      answers: { 200: "All gateways." },
      handle: () => ok({ gateways: state.gateways() }),
    });
  };
}

function unknown(pod: string): ReturnType<typeof refuse> {
  return refuse("pod-not-found", `no pod '${pod}' is there`);
}
