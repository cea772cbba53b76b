// Owns the scope of a model: its name as key (with a principal, where callers prove who they are), and the route
// configuration of its plan.
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type ScopedRouteConfiguration,
  ScopedRouteConfigurationSchema,
} from "#proto/gen/envoy/config/route/v3/scoped_route_pb.ts";

export function buildScope(name: string, key: readonly string[], routes: string): ScopedRouteConfiguration {
  return create(ScopedRouteConfigurationSchema, {
    name,
    routeConfigurationName: routes,
    key: { fragments: key.map((value) => ({ type: { case: "stringKey" as const, value } })) },
  });
}

export function encodeScope(name: string, key: readonly string[], routes: string): Uint8Array {
  return toBinary(ScopedRouteConfigurationSchema, buildScope(name, key, routes));
}
