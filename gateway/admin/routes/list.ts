// Owns which resources the management API has.
import type { RouteModule } from "../route.ts";
import type { GatewayState } from "../state.ts";
import { healthRoutes } from "./health.ts";
import { modelRoutes } from "./models.ts";
import { podRoutes } from "./pods.ts";
import { registryRoutes } from "./registry.ts";
import { statsRoutes } from "./stats.ts";

export function listRoutes(state: GatewayState): readonly RouteModule[] {
  return [healthRoutes(state), statsRoutes(state), podRoutes(state), modelRoutes(state), registryRoutes(state)];
}
