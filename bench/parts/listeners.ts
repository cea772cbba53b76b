// Owns the listeners that `parts` compares: each is the hit path's own listener with its table built in, but for one part
// that is left away or done in another way; or a plain static route with one part more.
import { create, fromBinary } from "@bufbuild/protobuf";
import { mark, processor } from "#envoy/filters.ts";
import { filters } from "#envoy/names.ts";
import { packAny } from "#platform/any.ts";
import type { Bootstrap } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { ListenerSchema } from "#proto/gen/envoy/config/listener/v3/listener_pb.ts";
import type { RouteConfiguration } from "#proto/gen/envoy/config/route/v3/route_pb.ts";
import { ExtProcPerRouteSchema } from "#proto/gen/envoy/extensions/filters/http/ext_proc/v3/ext_proc_pb.ts";
import { LuaSchema } from "#proto/gen/envoy/extensions/filters/http/lua/v3/lua_pb.ts";
import { RouterSchema } from "#proto/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
  ScopedRouteConfigurationsListSchema,
} from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { buildSetCluster } from "#xds/resources/cluster.ts";
import { buildRoutes } from "#xds/resources/routes.ts";
import { buildScope } from "#xds/resources/scope.ts";
import { buildSet } from "#xds/resources/set.ts";
import type { PodAddress, SocketAddress, Wire } from "../addresses.ts";

/** What of the listener is changed before it is used. */
interface Edited {
  readonly manager: HttpConnectionManager;
  readonly routes: RouteConfiguration;
}

export interface Part {
  readonly wire: Wire;
  /** The pod is taken for one that has gRPC alone. */
  readonly byGrpc?: true;
  readonly edit: (parts: Edited) => void;
}

const nothing = (): undefined => undefined;
const without =
  (...names: string[]) =>
  ({ manager }: Edited): void => {
    manager.httpFilters = manager.httpFilters.filter(({ name }) => !names.includes(name));
  };

/** By the name of the figure. `rest` and `grpc` are the hit path itself. */
export const parts = {
  rest: { wire: "rest", edit: nothing },
  restWithoutRetries: { wire: "rest", edit: withoutRetries },
  restWithoutHedging: { wire: "rest", edit: withoutHedging },
  restWithoutAccessLog: { wire: "rest", edit: withoutAccessLog },
  restWithoutEdge: { wire: "rest", edit: withoutEdge },
  restWithoutScopes: { wire: "rest", edit: withoutScopes },
  restWithFilters: { wire: "rest", edit: withFilters },
  restWithStatistics: { wire: "rest", edit: withStatistics },
  restByGrpc: { wire: "rest", byGrpc: true, edit: nothing },
  grpc: { wire: "grpc", edit: nothing },
  grpcWithoutRetries: { wire: "grpc", edit: withoutRetries },
  grpcWithoutHedging: { wire: "grpc", edit: withoutHedging },
  grpcWithoutAccessLog: { wire: "grpc", edit: withoutAccessLog },
  grpcWithoutExtraction: { wire: "grpc", edit: without("envoy.filters.http.grpc_field_extraction") },
  grpcWithMissFilter: { wire: "grpc", edit: withMissFilter },
  grpcWithoutScript: { wire: "grpc", edit: withoutScript },
  grpcWithEmptyScript: { wire: "grpc", edit: withEmptyScript },
} as const satisfies Readonly<Record<string, Part>>;

export type PartName = keyof typeof parts;

export const partNames = Object.keys(parts) as readonly PartName[];

/** Adds a listener for each part to the bootstrap, at the address of its name. */
export function addParts(
  bootstrap: Bootstrap,
  pod: PodAddress,
  models: readonly string[],
  at: Readonly<Record<PartName, SocketAddress>>,
): void {
  const resources = bootstrap.staticResources;
  if (resources === undefined) throw new Error("the bootstrap has no static resources");
  const plain = buildSet([{ podId: "parts", ...pod }]);
  const translated = buildSet([{ podId: "parts", ...pod, restByGrpc: true }]);
  for (const set of [plain, translated]) {
    for (const wire of ["rest", "grpc"] as const) resources.clusters.push(buildSetCluster(set, wire));
  }
  const own = bootstrap.staticResources?.listeners ?? [];
  for (const name of partNames) {
    const { wire, byGrpc, edit }: Part = parts[name];
    const set = byGrpc === true ? translated : plain;
    const original = own.find((listener) => listener.name === (wire === "rest" ? "warm-http" : "warm-grpc"));
    const config = original?.filterChains[0]?.filters[0]?.configType;
    if (original === undefined || config?.case !== "typedConfig") throw new Error(`there is no listener for ${wire}`);
    const manager = fromBinary(HttpConnectionManagerSchema, config.value.value);
    const routes = buildRoutes(
      { active: { set, slot: 0 }, split: [], mirror: undefined, patience: 0 },
      { auth: false, limited: false },
    );
    manager.statPrefix = `parts_${name}`;
    scope(manager, routes, models);
    edit({ manager, routes });
    const { host, port } = at[name];
    resources.listeners.push(
      create(ListenerSchema, {
        name: `parts-${name}`,
        perConnectionBufferLimitBytes: original.perConnectionBufferLimitBytes ?? 0,
        address: {
          address: { case: "socketAddress", value: { address: host, portSpecifier: { case: "portValue", value: port } } },
        },
        filterChains: [
          {
            filters: [
              { name: "http", configType: { case: "typedConfig", value: packAny(HttpConnectionManagerSchema, manager) } },
            ],
          },
        ],
      }),
    );
  }
}

function scope(manager: HttpConnectionManager, routes: RouteConfiguration, models: readonly string[]): void {
  if (manager.routeSpecifier.case !== "scopedRoutes") throw new Error("the listener has no scopes");
  manager.routeSpecifier.value.configSpecifier = {
    case: "scopedRouteConfigurationsList",
    value: create(ScopedRouteConfigurationsListSchema, {
      scopedRouteConfigurations: models.map((model) => ({ ...buildScope(model, [model], ""), routeConfiguration: routes })),
    }),
  };
}

function withoutRetries({ routes }: Edited): void {
  withoutHedging({ routes });
  for (const host of routes.virtualHosts) {
    delete host.retryPolicy;
    delete host.requestBodyBufferLimit;
  }
}

function withoutHedging({ routes }: Pick<Edited, "routes">): void {
  for (const host of routes.virtualHosts) {
    delete host.hedgePolicy;
    delete host.retryPolicy?.perTryTimeout;
    host.includeIsTimeoutRetryHeader = false;
  }
}

function withoutAccessLog({ manager }: Edited): void {
  manager.accessLog = [];
}

function withoutEdge({ manager }: Edited): void {
  manager.earlyHeaderMutationExtensions = [];
  manager.skipXffAppend = false;
  delete manager.useRemoteAddress;
  delete manager.normalizePath;
}

function withoutScopes({ manager, routes }: Edited): void {
  manager.routeSpecifier = { case: "routeConfig", value: routes };
}

function withFilters({ routes }: Edited): void {
  for (const host of routes.virtualHosts) for (const route of host.routes) route.typedPerFilterConfig = {};
}

/** Made for every request, and told by the route to stand aside. */
function withMissFilter({ manager, routes }: Edited): void {
  const made = create(HttpConnectionManagerSchema, { httpFilters: [processor(filters.miss, { maxParkMs: 60_000 }), mark] });
  manager.httpFilters = manager.httpFilters.flatMap((filter) => (filter.name === filters.miss ? made.httpFilters : [filter]));
  const off = packAny(ExtProcPerRouteSchema, { override: { case: "disabled", value: true } });
  for (const host of routes.virtualHosts) for (const route of host.routes) route.typedPerFilterConfig = { [filters.miss]: off };
}

function withStatistics({ manager }: Edited): void {
  for (const filter of manager.httpFilters) {
    if (filter.name === "envoy.filters.http.router")
      filter.configType = { case: "typedConfig", value: packAny(RouterSchema, {}) };
  }
}

function withoutScript(edited: Edited): void {
  without("envoy.filters.http.grpc_field_extraction", filters.naming)(edited);
  withoutScopes(edited);
}

function withEmptyScript(edited: Edited): void {
  without("envoy.filters.http.grpc_field_extraction")(edited);
  withoutScopes(edited);
  const empty = packAny(LuaSchema, {
    defaultSourceCode: { specifier: { case: "inlineString", value: "function envoy_on_request(handle) end" } },
  });
  for (const filter of edited.manager.httpFilters) {
    if (filter.name === filters.naming) filter.configType = { case: "typedConfig", value: empty };
  }
}
