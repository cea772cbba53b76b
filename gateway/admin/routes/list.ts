// Owns which resources the management API has.
import type { Explain } from "../explain.ts";
import type { Models } from "../models.ts";
import type { RouteModule } from "../route.ts";
import type { GatewayState } from "../state.ts";
import { explainRoutes } from "./explain.ts";
import { healthRoutes } from "./health.ts";
import { modelRoutes } from "./models.ts";
import { podRoutes } from "./pods.ts";
import { registryRoutes } from "./registry.ts";
import { revisionRoutes } from "./revisions.ts";
import { statsRoutes } from "./stats.ts";
import { watchRoutes } from "./watch.ts";

export interface Resources {
  readonly state: GatewayState;
  readonly models: Models;
  readonly explain: Explain;
}

export function listRoutes({ state, models, explain }: Resources): readonly RouteModule[] {
  return [
    healthRoutes(state),
    statsRoutes(state),
    podRoutes(state),
    modelRoutes(models),
    revisionRoutes(models),
    explainRoutes(explain),
    registryRoutes(state),
    watchRoutes(models),
  ];
}
