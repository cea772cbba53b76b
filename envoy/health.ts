// Owns gRPC's health check (https://github.com/grpc/grpc/blob/master/doc/health-checking.md), answered by Envoy alone: whoever
// balances load or probes asks whether this Envoy serves, which it does without any gateway. As nothing in Envoy itself answers
// with a message and trailers, two internal listeners do, one behind the other:
//
//   port --> health: a gRPC call made one of plain HTTP, its answer a message with a status behind it
//        --> health-answer: the message's bytes, or 503 once clients are sent elsewhere (envoyhealth.ts of the gateway)
import type { MessageInitShape } from "@bufbuild/protobuf";
import { duration, packAny } from "#platform/any.ts";
import { HeaderValueOption_HeaderAppendAction } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import type { ListenerSchema } from "#proto/gen/envoy/config/listener/v3/listener_pb.ts";
import type { RouteSchema } from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { FilterConfigSchema as BridgeSchema } from "#proto/gen/envoy/extensions/filters/http/grpc_http1_reverse_bridge/v3/config_pb.ts";
import { HealthCheckSchema } from "#proto/gen/envoy/extensions/filters/http/health_check/v3/health_check_pb.ts";
import { HttpConnectionManagerSchema } from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { connection, filter, type HttpFilter, router } from "./filters.ts";
import { clusters, healthAnswerListener, healthListener } from "./names.ts";
import type { BootstrapOptions } from "./options.ts";

type Listener = MessageInitShape<typeof ListenerSchema>;

const plainMessage = "application/x-protobuf";

/** HealthCheckResponse { status: SERVING } */
const serving = Uint8Array.of(8, 1);

export function buildHealthListeners(options: BootstrapOptions): Listener[] {
  const bridge = filter("warm.health_bridge", packAny(BridgeSchema, { contentType: plainMessage, withholdGrpcFrames: true }));
  const gate = filter("warm.health_gate", packAny(HealthCheckSchema, { passThroughMode: true }));
  return [
    inner(healthListener, bridge, options, {
      action: {
        case: "route",
        value: { clusterSpecifier: { case: "cluster", value: clusters.healthAnswer }, timeout: duration(5_000) },
      },
    }),
    inner(healthAnswerListener, gate, options, {
      action: {
        case: "directResponse",
        value: { status: 200, body: { specifier: { case: "inlineBytes", value: serving } } },
      },
      responseHeadersToAdd: [
        {
          header: { key: "content-type", value: plainMessage },
          appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        },
      ],
    }),
  ];
}

function inner(
  name: string,
  first: HttpFilter,
  options: BootstrapOptions,
  route: Pick<MessageInitShape<typeof RouteSchema>, "action" | "responseHeadersToAdd">,
): Listener {
  const all = { ...route, match: { pathSpecifier: { case: "prefix" as const, value: "/" } } };
  const manager = packAny(HttpConnectionManagerSchema, {
    ...connection(name.replaceAll("-", "_"), options),
    generateRequestId: false,
    routeSpecifier: {
      case: "routeConfig",
      value: { name, virtualHosts: [{ name, domains: ["*"], routes: [all] }] },
    },
    httpFilters: [first, router],
  });
  return {
    name,
    listenerSpecifier: { case: "internalListener", value: {} },
    filterChains: [{ filters: [{ name: "http", configType: { case: "typedConfig", value: manager } }] }],
  };
}
