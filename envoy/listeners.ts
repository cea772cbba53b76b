// Owns the listeners: the HTTP and the gRPC port, which share one table of scoped routes, and the internal one that
// reroutes. Filters in order: naming (finds the name), miss (parks what has no route), mark (tells the client of a
// wait), router. On a hit whose path names the model only the router exists: the route says so.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { duration, packAny } from "#platform/any.ts";
import type { AccessLogSchema } from "#proto/gen/envoy/config/accesslog/v3/accesslog_pb.ts";
import { ApiVersion } from "#proto/gen/envoy/config/core/v3/config_source_pb.ts";
import type { FilterSchema } from "#proto/gen/envoy/config/listener/v3/listener_components_pb.ts";
import type { ListenerSchema } from "#proto/gen/envoy/config/listener/v3/listener_pb.ts";
import { HttpGrpcAccessLogConfigSchema } from "#proto/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import { TlsInspectorSchema } from "#proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts";
import {
  HttpConnectionManager_PathWithEscapedSlashesAction,
  HttpConnectionManagerSchema,
  type LocalReplyConfigSchema,
  type ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractorSchema,
} from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { HeaderMutationSchema as EarlyHeaderMutationSchema } from "#proto/gen/envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation_pb.ts";
import { buildAuthFilters, principalAtTheEdge } from "./auth.ts";
import { connection, filter, type HttpFilter, lua, mark, onMiss, processor, router, script } from "./filters.ts";
import { buildFirstMessage, firstMessageFilter } from "./firstmessage.ts";
import { buildHealthListeners } from "./health.ts";
import { buildInnerListeners } from "./inner.ts";
import { limitFilter } from "./limit.ts";
import { grpcErrors, httpErrors } from "./localreplies.ts";
import { clusters, filters, grpcStatus, headerPrefix, headers, scopedRoutes, usageLog, usageSampleKey } from "./names.ts";
import type { BootstrapOptions, PortAddress } from "./options.ts";
import { buildTlsSocket } from "./tls.ts";
import { overAds } from "./ways.ts";

type Listener = MessageInitShape<typeof ListenerSchema>;
type Extractor = MessageInitShape<typeof ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractorSchema>;

export function buildListeners(options: BootstrapOptions): Listener[] {
  return [
    port("http", options.http, options, {
      // /v2/models/NAME/...: the name is the third segment.
      wire: "rest",
      key: { name: ":path", extractType: { case: "index", value: 3 }, elementSeparator: "/" },
      before: [],
      naming: script("json.lua", "naming-http.lua"),
      answer: script("answer-http.lua"),
      localReplies: httpErrors,
    }),
    port("grpc", options.grpc, options, {
      wire: "grpc",
      key: { name: headers.model, extractType: { case: "index", value: 0 } },
      before: [filter(firstMessageFilter, buildFirstMessage())],
      naming: script("message.lua", "frames.lua", "agree.lua", "naming-grpc.lua"),
      answer: script("frames.lua", "answer-grpc.lua"),
      localReplies: grpcErrors,
    }),
    ...buildInnerListeners(options),
    ...buildHealthListeners(options),
  ];
}

interface PortKind {
  readonly wire: "rest" | "grpc";
  readonly key: Extractor;
  /** Filters before the naming filter. */
  readonly before: readonly HttpFilter[];
  readonly naming: string;
  /** Makes an answer say the public name; routes of slots ask for it. */
  readonly answer: string;
  readonly localReplies: MessageInitShape<typeof LocalReplyConfigSchema>;
}

function port(name: string, address: PortAddress, options: BootstrapOptions, kind: PortKind): Listener {
  return {
    name: `warm-${name}`,
    address: {
      address: {
        case: "socketAddress",
        value: { address: address.host, portSpecifier: { case: "portValue", value: address.port } },
      },
    },
    // Between two that come requests of those that are there have their turn: a flood brings hundreds at once.
    maxConnectionsToAcceptPerSocketEvent: 1,
    perConnectionBufferLimitBytes: options.maxMessageBytes + 64 * 1024,
    ...securedBy(options.tls, [
      {
        name: "http",
        configType: {
          case: "typedConfig",
          value: packAny(HttpConnectionManagerSchema, {
            ...connection(`warm_${name}`, options),
            localReplyConfig: kind.localReplies,
            // Whoever connects is the client: its word on where it came from counts for nothing, nor is it passed on.
            useRemoteAddress: true,
            skipXffAppend: true,
            normalizePath: true,
            // An escaped slash passes no route, and the gateway says so in words; Envoy would refuse it without any.
            pathWithEscapedSlashesAction: HttpConnectionManager_PathWithEscapedSlashesAction.KEEP_UNCHANGED,
            earlyHeaderMutationExtensions: [atTheEdge(options)],
            accessLog: [usage()],
            routeSpecifier: {
              case: "scopedRoutes",
              value: {
                name: scopedRoutes,
                scopeKeyBuilder: {
                  fragments: scopeKey(kind.key, options).map((value) => ({
                    type: { case: "headerValueExtractor" as const, value },
                  })),
                },
                rdsConfigSource: overAds,
                configSpecifier: { case: "scopedRds", value: { scopedRdsConfigSource: overAds } },
              },
            },
            httpFilters: [
              ...(options.auth === undefined ? [] : [...buildAuthFilters(options.auth), limitFilter]),
              ...kind.before,
              lua(filters.naming, kind.naming, { answer: kind.answer }),
              onMiss(filters.miss, processor(filters.miss, options, kind.wire), mark),
              router,
            ],
          }),
        },
      },
    ]),
  };
}

/**
 * Where plain text is answered beside TLS, the first bytes of a connection tell which it is; one that says nothing for so
 * long (15 s) that it might be either is plain. Requests cost nothing more.
 */
function securedBy(tls: BootstrapOptions["tls"], filters: MessageInitShape<typeof FilterSchema>[]) {
  if (tls === undefined) return { filterChains: [{ filters }] };
  const secured = { filters, transportSocket: buildTlsSocket(tls) };
  if (tls.plainText !== true) return { filterChains: [secured] };
  return {
    listenerFilters: [
      {
        name: "envoy.filters.listener.tls_inspector",
        configType: { case: "typedConfig" as const, value: packAny(TlsInspectorSchema, {}) },
      },
    ],
    continueOnListenerFiltersTimeout: true,
    filterChains: [
      { ...secured, name: "tls", filterChainMatch: { transportProtocol: "tls" } },
      { filters, name: "plain" },
    ],
  };
}

/** A client's own word on what only we may say counts for nothing. */
function atTheEdge({ auth }: BootstrapOptions) {
  const stripped = [
    {
      action: {
        case: "removeOnMatch" as const,
        value: { keyMatcher: { matchPattern: { case: "prefix" as const, value: headerPrefix } } },
      },
    },
    // The one of Envoy's own that it lets pass from anybody.
    { action: { case: "remove" as const, value: headers.isHedge } },
  ];
  return {
    name: "envoy.http.early_header_mutation.header_mutation",
    typedConfig: packAny(EarlyHeaderMutationSchema, {
      mutations: [...stripped, ...(auth === undefined ? [] : [principalAtTheEdge(auth)])],
    }),
  };
}

function scopeKey(key: Extractor, { auth }: BootstrapOptions): readonly Extractor[] {
  const principal: Extractor = { name: headers.principal, extractType: { case: "index", value: 0 } };
  return auth === undefined ? [key] : [key, principal];
}

/** Usage of models: access logs to the gateway, sampled. */
function usage(): MessageInitShape<typeof AccessLogSchema> {
  return {
    name: "envoy.access_loggers.http_grpc",
    filter: {
      filterSpecifier: {
        case: "runtimeFilter",
        value: {
          runtimeKey: usageSampleKey,
          percentSampled: { numerator: 1_000_000, denominator: 2 },
          useIndependentRandomness: true,
        },
      },
    },
    configType: {
      case: "typedConfig",
      value: packAny(HttpGrpcAccessLogConfigSchema, {
        commonConfig: {
          logName: usageLog,
          transportApiVersion: ApiVersion.V3,
          grpcService: { targetSpecifier: { case: "envoyGrpc", value: { clusterName: clusters.gateway } } },
          bufferFlushInterval: duration(250),
          bufferSizeBytes: 64 * 1024,
        },
        additionalRequestHeadersToLog: [headers.model, headers.publicName],
        // The status of a gRPC answer stands in its trailers, and among its headers only if it is nothing but an error.
        additionalResponseHeadersToLog: [headers.loadMs, headers.notHere, grpcStatus],
      }),
    },
  };
}
