// The public entry of xds: the table that the gateway writes and the server that Envoy reads.
export { type PodAddress, podClusterName } from "./resources/set.ts";
export { createRouteTable, type ResourceRef, type RouteTable, type RouteTarget } from "./table.ts";
export { typeUrls } from "./typeurls.ts";
