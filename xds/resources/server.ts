// Owns the routes of calls that ask about the server rather than a model (ServerLive and the like, over gRPC): to the
// gateway itself, and gRPC's health check to what answers it in Envoy. The naming filter gives them a scope key of their own,
// which no model's name can be.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { clusters, healthCheck, serverMethods } from "#envoy/names.ts";
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
        routes: [
          route("Health", healthCheck, clusters.health),
          ...serverMethods.map((method) => route(method, `/inference.GRPCInferenceService/${method}`, clusters.gateway)),
        ],
      },
    ],
  });
}

function route(name: string, path: string, cluster: string): MessageInitShape<typeof RouteSchema> {
  return {
    name,
    match: { pathSpecifier: { case: "path", value: path } },
    action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: cluster }, timeout: duration(5_000) } },
  };
}
