// Owns what the hit path is held against: a listener that does nothing but send on, with the defaults a plain Envoy
// configuration has (request id, envoy headers, HTTP/1.1 and HTTP/2), no access log, one route, one cluster. It is added
// to the bootstrap of the hit path's own Envoy, so both run on the same threads and meet the same noise.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { duration, packAny } from "#platform/any.ts";
import { type Bootstrap, BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { type Listener, ListenerSchema } from "#proto/gen/envoy/config/listener/v3/listener_pb.ts";
import { RouterSchema } from "#proto/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import {
  HttpConnectionManager_CodecType,
  HttpConnectionManagerSchema,
} from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { buildPodCluster } from "#xds/resources/cluster.ts";
import type { PodAddress, SocketAddress, Wire } from "./addresses.ts";

/** The bootstrap with one plain listener more for REST and for gRPC, both to this pod. */
export function addPlainRoutes(bootstrap: Uint8Array, pod: PodAddress, at: Readonly<Record<Wire, SocketAddress>>): Uint8Array {
  const edited: Bootstrap = fromBinary(BootstrapSchema, bootstrap);
  const resources = edited.staticResources;
  if (resources === undefined) throw new Error("the bootstrap has no static resources");
  for (const wire of ["rest", "grpc"] as const) {
    // The cluster of a pod is built as for hits, under a name of its own: its settings must not make the difference.
    const cluster = buildPodCluster({ podId: "plain", ...pod }, wire);
    cluster.name = plainName(wire);
    resources.clusters.push(cluster);
    resources.listeners.push(buildPlainListener(wire, at[wire]));
  }
  return toBinary(BootstrapSchema, edited);
}

function plainName(wire: Wire): string {
  return `plain-${wire}`;
}

function buildPlainListener(wire: Wire, { host, port }: SocketAddress): Listener {
  const name = plainName(wire);
  const manager = packAny(HttpConnectionManagerSchema, {
    statPrefix: name,
    codecType: HttpConnectionManager_CodecType.AUTO,
    routeSpecifier: {
      case: "routeConfig",
      value: {
        name,
        virtualHosts: [
          {
            name: "all",
            domains: ["*"],
            routes: [
              {
                match: { pathSpecifier: { case: "prefix", value: "/" } },
                action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: name }, timeout: duration(0) } },
              },
            ],
          },
        ],
      },
    },
    httpFilters: [{ name: "envoy.filters.http.router", configType: { case: "typedConfig", value: packAny(RouterSchema, {}) } }],
  });
  return create(ListenerSchema, {
    name,
    address: { address: { case: "socketAddress", value: { address: host, portSpecifier: { case: "portValue", value: port } } } },
    filterChains: [{ filters: [{ name: "http", configType: { case: "typedConfig", value: manager } }] }],
  });
}
