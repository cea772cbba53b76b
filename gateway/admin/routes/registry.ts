// Owns what is told of the registry, and the way back when it has lost models.
import { z } from "zod";
import { addRoute, ok, type RouteModule } from "../route.ts";
import type { GatewayState } from "../state.ts";

export function registryRoutes(state: Pick<GatewayState, "registry" | "restoreRegistry">): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/registry",
      summary: "How many models this gateway knows, and how many of them the registry came back without.",
      answers: { 200: { says: "As of now.", body: z.object({ models: z.int(), missing: z.int() }) } },
      handle: () => ok(state.registry()),
    });
    addRoute(app, {
      method: "POST",
      url: "/api/v1/registry/restore",
      summary: "Write the models that the registry came back without to it again.",
      description:
        "A registry that is suddenly another one, or older than it was, takes no model away from a gateway that knows it; changes are refused until its models are restored from one gateway, or all gateways are started anew with what it has.",
      answers: { 200: { says: "How many were written.", body: z.object({ restored: z.int() }) } },
      handle: async () => ok({ restored: await state.restoreRegistry() }),
    });
  };
}
