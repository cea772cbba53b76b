// Owns the scope of a model: its name as key, and the route configuration of its set and slot.
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type ScopedRouteConfiguration,
  ScopedRouteConfigurationSchema,
} from "#proto/gen/envoy/config/route/v3/scoped_route_pb.ts";

export function buildScope(key: string, routes: string): ScopedRouteConfiguration {
  return create(ScopedRouteConfigurationSchema, {
    name: key,
    routeConfigurationName: routes,
    key: { fragments: [{ type: { case: "stringKey", value: key } }] },
  });
}

export function encodeScope(key: string, routes: string): Uint8Array {
  return toBinary(ScopedRouteConfigurationSchema, buildScope(key, routes));
}
