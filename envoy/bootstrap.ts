// Owns Envoy's bootstrap: the listeners, where the gateway is reached, and the filters that a miss goes through.
// What changes while Envoy runs (clusters, routes, scopes, the sample rate) comes over xDS; nothing here names a model.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { duration, packAny } from "#platform/any.ts";
import { type Bootstrap, BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { Cluster_DiscoveryType, type ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { AddressSchema } from "#proto/gen/envoy/config/core/v3/address_pb.ts";
import { ApiConfigSource_ApiType, ApiVersion } from "#proto/gen/envoy/config/core/v3/config_source_pb.ts";
import { InternalListenerSchema } from "#proto/gen/envoy/extensions/bootstrap/internal_listener/v3/internal_listener_pb.ts";
import { HttpProtocolOptionsSchema } from "#proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import { buildAuthClusters } from "./auth.ts";
import { buildOverload, defaultLimits } from "./limits.ts";
import { buildListeners } from "./listeners.ts";
import {
  clusters,
  healthAnswerListener,
  healthListener,
  mirrorListener,
  rerouteListener,
  runtimeLayer,
  usageSampleKey,
} from "./names.ts";
import type { BootstrapOptions } from "./options.ts";
import { buildCollector, tracingFlags } from "./tracing.ts";
import { internal, overAds, pipe } from "./ways.ts";

export function buildBootstrap(options: BootstrapOptions): Bootstrap {
  return create(BootstrapSchema, {
    node: { id: options.nodeId, cluster: "warmpath" },
    admin: { address: pipe(options.adminSocket) },
    bootstrapExtensions: [{ name: "envoy.bootstrap.internal_listener", typedConfig: packAny(InternalListenerSchema, {}) }],
    memoryAllocatorManager: hugePages,
    overloadManager: buildOverload(options.limits ?? defaultLimits),
    layeredRuntime: {
      layers: [
        {
          name: "static",
          layerSpecifier: {
            case: "staticLayer",
            value: { ...runtimeFlags, ...(options.tracing === undefined ? {} : tracingFlags) },
          },
        },
        { name: runtimeLayer, layerSpecifier: { case: "rtdsLayer", value: { name: runtimeLayer, rtdsConfig: overAds } } },
        { name: "admin", layerSpecifier: { case: "adminLayer", value: {} } },
      ],
    },
    dynamicResources: {
      adsConfig: {
        apiType: ApiConfigSource_ApiType.DELTA_GRPC,
        transportApiVersion: ApiVersion.V3,
        // Otherwise every ACK carries the whole node, some 60 KB.
        setNodeOnFirstMessageOnly: true,
        grpcServices: [
          { targetSpecifier: { case: "envoyGrpc", value: { clusterName: clusters.gateway, retryPolicy: reconnect } } },
        ],
      },
      cdsConfig: overAds,
    },
    staticResources: {
      listeners: buildListeners(options),
      clusters: [
        ...(options.auth === undefined ? [] : buildAuthClusters(options.auth)),
        ...(options.tracing === undefined ? [] : [buildCollector(options.tracing)]),
        staticCluster(clusters.gateway, pipe(options.gatewaySocket)),
        staticCluster(clusters.extProc, pipe(options.gatewaySocket), 800),
        // Where routes of slots send gRPC calls that have waited: there the message is made to name the slot.
        staticCluster(clusters.reroute, internal(rerouteListener)),
        mirrorCluster(options),
        staticCluster(clusters.health, internal(healthListener)),
        staticCluster(clusters.healthAnswer, internal(healthAnswerListener)),
      ],
    },
  });
}

/**
 * Starts the thread of Envoy's allocator that gathers what is used into huge pages (two megabytes each), which costs nothing but
 * this and needs no setting of the machine, from Linux 6.1 on: of many warm models a hit finds its own in memory that nobody has
 * touched for long, and with pages of four kilobytes a good part of its time is the search for these pages (docs/decisions/0079).
 * The thread also gives memory back to the system; as little as it can, since that takes huge pages apart.
 */
const hugePages = { bytesToRelease: 1n, memoryReleaseInterval: duration(1_000) };

/** A gateway that starts is on the same machine: Envoy's own pauses, which grow to 30 s, would keep misses waiting. */
const reconnect = { retryBackOff: { baseInterval: duration(50), maxInterval: duration(500) } };

const runtimeFlags = {
  // Envoy then resets each ext_proc stream, which the gateway's server allows. Closing them gracefully would be cheaper,
  // but together with the retry policy of these streams Envoy 1.40 crashes when a client leaves after a minute or so.
  "envoy.reloadable_features.ext_proc_graceful_grpc_close": false,
  "re2.max_program_size.error_level": 1_000,
  // What one connection sends at once is worked off in turns with the others'; one that has opened so many streams and reset
  // most of them within a second is closed. (500 by default, and no turns.) Fewer at a turn would shorten the others' wait
  // little, and each turn costs honest clients, who share one connection among their calls, processor time.
  "http.max_requests_per_io_cycle": 4,
  "overload.premature_reset_total_stream_count": 200,
  [usageSampleKey]: 1_000_000,
};

const unlimited = 1_000_000;

/** Over HTTP/2, to one address; `requestsPerConnection` 0: any number. */
function staticCluster(
  name: string,
  address: MessageInitShape<typeof AddressSchema>,
  requestsPerConnection = 0,
): MessageInitShape<typeof ClusterSchema> {
  return {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
    connectTimeout: duration(1_000),
    // Each parked request is one request here: what bounds them is the gateway's queue.
    circuitBreakers: {
      thresholds: [{ maxConnections: unlimited, maxPendingRequests: unlimited, maxRequests: unlimited, maxRetries: unlimited }],
    },
    typedExtensionProtocolOptions: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packAny(HttpProtocolOptionsSchema, {
        commonHttpProtocolOptions: requestsPerConnection > 0 ? { maxRequestsPerConnection: requestsPerConnection } : {},
        upstreamProtocolOptions: {
          case: "explicitHttpConfig",
          value: { protocolConfig: { case: "http2ProtocolOptions", value: {} } },
        },
      }),
    },
    loadAssignment: {
      clusterName: name,
      endpoints: [{ lbEndpoints: [{ hostIdentifier: { case: "endpoint", value: { address } } }] }],
    },
  };
}

/** So many copies of requests may be under way; what comes more is not mirrored. */
const mostMirrored = 128;

/**
 * Where routes send copies of requests. Over HTTP/1.1, hence a connection for each, which takes in a whole body: one that a
 * pod does not read holds up neither the others nor the request that it is a copy of. The answer is thrown away, so that
 * HTTP/1.1 has no trailers does not matter.
 */
function mirrorCluster({ maxMessageBytes }: BootstrapOptions): MessageInitShape<typeof ClusterSchema> {
  return {
    name: clusters.mirror,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
    connectTimeout: duration(1_000),
    perConnectionBufferLimitBytes: maxMessageBytes + 64 * 1024,
    circuitBreakers: {
      thresholds: [{ maxConnections: mostMirrored, maxPendingRequests: mostMirrored, maxRequests: mostMirrored }],
    },
    loadAssignment: {
      clusterName: clusters.mirror,
      endpoints: [{ lbEndpoints: [{ hostIdentifier: { case: "endpoint", value: { address: internal(mirrorListener) } } }] }],
    },
  };
}
