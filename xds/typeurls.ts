// Owns the type URLs that this server serves.
export const typeUrls = {
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  routes: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
  scope: "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
  runtime: "type.googleapis.com/envoy.service.runtime.v3.Runtime",
  extension: "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
} as const;

export type TypeUrl = (typeof typeUrls)[keyof typeof typeUrls];
