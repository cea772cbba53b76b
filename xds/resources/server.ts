// Owns the route of calls that ask about the server rather than a model (ServerLive and the like, over gRPC): to the
// gateway itself. The naming filter gives them a scope key of their own, which no model's name can be.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { clusters, serverMethods } from "#envoy/names.ts";
import { duration } from "#platform/any.ts";
import type { RouteSchema } from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { type RouteConfiguration, RouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/route_pb.ts";

export const serverRoutesName = "server";

export function buildServerRoutes(): RouteConfiguration {
  return create(RouteConfigurationSchema, {
    name: serverRoutesName,
    virtualHosts: [
      {
        name: "server",
        domains: ["*"],
        routes: serverMethods.map(
          (method): MessageInitShape<typeof RouteSchema> => ({
            name: method,
            match: { pathSpecifier: { case: "path", value: `/inference.GRPCInferenceService/${method}` } },
            action: {
              case: "route",
              value: { clusterSpecifier: { case: "cluster", value: clusters.gateway }, timeout: duration(5_000) },
            },
          }),
        ),
      },
    ],
  });
}
