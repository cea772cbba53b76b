// Owns the clusters: one pair (REST and gRPC) for each placement set, two pairs for each pod alone (where the gateway
// sends what it reroutes, the second time to the second). A set never changes, so neither does its cluster: another set is another cluster.
// Where a pod has no REST, the REST cluster translates, and leads to the gRPC port of all its pods.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { rerouteListener } from "#envoy/names.ts";
import { translateFilters } from "#envoy/translate.ts";
import { internal } from "#envoy/ways.ts";
import { duration, packAny } from "#platform/any.ts";
import type { CircuitBreakersSchema } from "#proto/gen/envoy/config/cluster/v3/circuit_breaker_pb.ts";
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { LocalityLbEndpointsSchema } from "#proto/gen/envoy/config/endpoint/v3/endpoint_components_pb.ts";
import { HttpProtocolOptionsSchema } from "#proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import { clusterName, type PlacementSet, type PodAddress, podClusterName, type SocketAddress, type Wire } from "./set.ts";

type Endpoints = MessageInitShape<typeof LocalityLbEndpointsSchema>;

/** The cluster of a placement set: its pods first, and when none answers, the reroute listener. */
export function buildSetCluster(set: PlacementSet, wire: Wire): Cluster {
  return buildCluster(clusterName(set, wire), set.pods, wire);
}

/** One pod alone: a rerouted request that fails here is rerouted once more. The copy may be evicted while it is on its way. */
export function buildPodCluster(pod: PodAddress, wire: Wire): Cluster {
  return buildCluster(podClusterName(pod, wire, 2), [pod], wire);
}

/** The same for the last time: what fails here has failed. What is silent here is looked for elsewhere, by the same kind. */
export function buildLastCluster(pod: PodAddress, wire: Wire): Cluster {
  return buildCluster(podClusterName(pod, wire, 3), [pod], wire);
}

function buildCluster(name: string, pods: readonly PodAddress[], wire: Wire): Cluster {
  const translates = wire === "rest" && pods.some(({ restByGrpc }) => restByGrpc === true);
  const spoken = translates ? "grpc" : wire;
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
    connectTimeout: duration(1_000),
    lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
    circuitBreakers: openBreakers,
    // No endpoint is ever marked unhealthy here: the gateway takes a dead pod out of its sets.
    commonLbConfig: { healthyPanicThreshold: { value: 0 } },
    typedExtensionProtocolOptions: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packAny(HttpProtocolOptionsSchema, {
        commonHttpProtocolOptions: { idleTimeout: duration(300_000) },
        upstreamProtocolOptions: {
          case: "explicitHttpConfig",
          value: {
            protocolConfig:
              spoken === "rest"
                ? { case: "httpProtocolOptions", value: {} }
                : { case: "http2ProtocolOptions", value: { maxConcurrentStreams: 1_000 } },
          },
        },
        ...(translates ? { httpFilters: [...translateFilters()] } : {}),
      }),
    },
    loadAssignment: { clusterName: name, endpoints: [podEndpoints(pods.map((pod) => pod[spoken])), rerouteEndpoints(name)] },
  });
}

function podEndpoints(addresses: readonly SocketAddress[]): Endpoints {
  return {
    priority: 0,
    lbEndpoints: addresses.map(({ host, port }) => ({
      hostIdentifier: {
        case: "endpoint",
        value: {
          address: {
            address: { case: "socketAddress", value: { address: host, portSpecifier: { case: "portValue", value: port } } },
          },
        },
      },
    })),
  };
}

function rerouteEndpoints(clusterId: string): Endpoints {
  const address = internal(rerouteListener, clusterId);
  return { priority: 1, lbEndpoints: [{ hostIdentifier: { case: "endpoint", value: { address } } }] };
}

const unlimited = 1_000_000;

// Envoy's own limits of 1,024 would refuse what the gateway has admitted; queues are bounded where loads are decided.
const openBreakers: MessageInitShape<typeof CircuitBreakersSchema> = {
  thresholds: [{ maxConnections: unlimited, maxPendingRequests: unlimited, maxRequests: unlimited, maxRetries: unlimited }],
};
