// Owns the listeners: the HTTP and the gRPC port, which share one table of scoped routes, and the internal one that
// reroutes. Filters in order: naming (finds the name), miss (parks what has no route), mark (tells the client of a
// wait), router. On a hit whose path names the model only the router exists: the route says so.
import { readFileSync } from "node:fs";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { duration, packAny } from "#platform/any.ts";
import type { AccessLogSchema } from "#proto/gen/envoy/config/accesslog/v3/accesslog_pb.ts";
import { HeaderValueOption_HeaderAppendAction } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import { ApiVersion } from "#proto/gen/envoy/config/core/v3/config_source_pb.ts";
import { HttpProtocolOptions_HeadersWithUnderscoresAction } from "#proto/gen/envoy/config/core/v3/protocol_pb.ts";
import type { ListenerSchema } from "#proto/gen/envoy/config/listener/v3/listener_pb.ts";
import { HttpGrpcAccessLogConfigSchema } from "#proto/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import { ExternalProcessorSchema } from "#proto/gen/envoy/extensions/filters/http/ext_proc/v3/ext_proc_pb.ts";
import {
  ProcessingMode_BodySendMode,
  ProcessingMode_HeaderSendMode,
} from "#proto/gen/envoy/extensions/filters/http/ext_proc/v3/processing_mode_pb.ts";
import { HeaderMutationSchema } from "#proto/gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.ts";
import { LuaSchema } from "#proto/gen/envoy/extensions/filters/http/lua/v3/lua_pb.ts";
import { RouterSchema } from "#proto/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import {
  HttpConnectionManager_CodecType,
  HttpConnectionManager_PathWithEscapedSlashesAction,
  HttpConnectionManagerSchema,
  type HttpFilterSchema,
  type LocalReplyConfigSchema,
  type ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractorSchema,
} from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { HeaderMutationSchema as EarlyHeaderMutationSchema } from "#proto/gen/envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation_pb.ts";
import { buildAuthFilters, principalAtTheEdge } from "./auth.ts";
import { buildFirstMessage, firstMessageFilter } from "./firstmessage.ts";
import { grpcErrors, httpErrors, unaskedStatus } from "./localreplies.ts";
import { clusters, filters, headers, mirrorListener, rerouteListener, scopedRoutes, usageLog, usageSampleKey } from "./names.ts";
import { type BootstrapOptions, overAds, type PortAddress } from "./options.ts";
import { buildTlsSocket } from "./tls.ts";
import { buildTracing } from "./tracing.ts";

type HttpFilter = MessageInitShape<typeof HttpFilterSchema>;
type Listener = MessageInitShape<typeof ListenerSchema>;
type Extractor = MessageInitShape<typeof ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractorSchema>;

export function buildListeners(options: BootstrapOptions): Listener[] {
  return [
    port("http", options.http, options, {
      // /v2/models/NAME/...: the name is the third segment.
      key: { name: ":path", extractType: { case: "index", value: 3 }, elementSeparator: "/" },
      before: [],
      naming: script("json.lua", "naming-http.lua"),
      answer: script("answer-http.lua"),
      localReplies: httpErrors,
    }),
    port("grpc", options.grpc, options, {
      key: { name: headers.model, extractType: { case: "index", value: 0 } },
      before: [filter(firstMessageFilter, buildFirstMessage())],
      naming: script("message.lua", "frames.lua", "naming-grpc.lua"),
      answer: script("frames.lua", "answer-grpc.lua"),
      localReplies: grpcErrors,
    }),
    reroute(options),
    mirror(options),
  ];
}

interface PortKind {
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
    perConnectionBufferLimitBytes: options.maxMessageBytes + 64 * 1024,
    filterChains: [
      {
        ...(options.tls === undefined ? {} : { transportSocket: buildTlsSocket(options.tls) }),
        filters: [
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
                  ...(options.auth === undefined ? [] : buildAuthFilters(options.auth)),
                  ...kind.before,
                  lua(filters.naming, kind.naming, { answer: kind.answer }),
                  processor(filters.miss, options),
                  mark,
                  router,
                ],
              }),
            },
          },
        ],
      },
    ],
  };
}

/** Where a request goes when every pod of its set failed it: the gateway finds or loads a copy and names its cluster. */
function reroute(options: BootstrapOptions): Listener {
  return {
    name: rerouteListener,
    listenerSpecifier: { case: "internalListener", value: {} },
    perConnectionBufferLimitBytes: options.maxMessageBytes + 64 * 1024,
    filterChains: [
      {
        filters: [
          {
            name: "http",
            configType: {
              case: "typedConfig",
              value: packAny(HttpConnectionManagerSchema, {
                ...connection("warm_reroute", options),
                generateRequestId: false,
                preserveExternalRequestId: true,
                routeSpecifier: {
                  case: "routeConfig",
                  value: {
                    name: "reroute",
                    validateClusters: false,
                    virtualHosts: [
                      {
                        name: "chosen",
                        domains: ["*"],
                        routes: [
                          {
                            match: { pathSpecifier: { case: "prefix", value: "/" } },
                            requestHeadersToRemove: [headers.cluster],
                            action: {
                              case: "route",
                              value: {
                                clusterSpecifier: { case: "clusterHeader", value: headers.cluster },
                                timeout: duration(0),
                                maxStreamDuration: { grpcTimeoutHeaderMax: duration(0) },
                              },
                            },
                          },
                        ],
                      },
                    ],
                  },
                },
                httpFilters: [
                  processor(filters.reroute, options),
                  lua(filters.slot, script("message.lua", "frames.lua", "json.lua", "body.lua", "slot.lua")),
                  mark,
                  router,
                ],
              }),
            },
          },
        ],
      },
    ],
  };
}

/** How long a copy of a request may take. */
const mirrorMs = 60_000;

/** Where copies of requests go: to the revision that mirrors, under its name. No gateway is asked, nothing tried again. */
function mirror(options: BootstrapOptions): Listener {
  return {
    name: mirrorListener,
    listenerSpecifier: { case: "internalListener", value: {} },
    perConnectionBufferLimitBytes: options.maxMessageBytes + 64 * 1024,
    filterChains: [
      {
        filters: [
          {
            name: "http",
            configType: {
              case: "typedConfig",
              value: packAny(HttpConnectionManagerSchema, {
                ...connection("warm_mirror", options),
                generateRequestId: false,
                preserveExternalRequestId: true,
                routeSpecifier: {
                  case: "routeConfig",
                  value: {
                    name: "mirror",
                    validateClusters: false,
                    virtualHosts: [
                      {
                        name: "copies",
                        domains: ["*"],
                        routes: [
                          {
                            match: { pathSpecifier: { case: "prefix", value: "/" } },
                            requestHeadersToRemove: [headers.cluster, headers.slot],
                            action: {
                              case: "route",
                              value: {
                                clusterSpecifier: { case: "clusterHeader", value: headers.cluster },
                                timeout: duration(mirrorMs),
                              },
                            },
                          },
                        ],
                      },
                    ],
                  },
                },
                httpFilters: [
                  lua(filters.mirror, script("message.lua", "frames.lua", "json.lua", "body.lua", "mirror.lua")),
                  router,
                ],
              }),
            },
          },
        ],
      },
    ],
  };
}

function connection(statPrefix: string, options: BootstrapOptions) {
  return {
    statPrefix,
    ...(options.tracing === undefined ? {} : { tracing: buildTracing(options.tracing) }),
    codecType: HttpConnectionManager_CodecType.AUTO,
    // A parked request is idle; it is the gateway that ends it, at the request's own deadline or maxParkMs. The same time
    // bounds headers that come slowly: a timer of their own would cost a microsecond on every hit.
    streamIdleTimeout: duration(options.maxParkMs + 60_000),
    commonHttpProtocolOptions: {
      idleTimeout: duration(3_600_000),
      headersWithUnderscoresAction: HttpProtocolOptions_HeadersWithUnderscoresAction.ALLOW,
    },
    // A gRPC client has one connection, and all its calls may be waiting at once. A stream's window is also how much of it
    // Envoy keeps while a filter reads the body: a whole message, where the name is read from it.
    http2ProtocolOptions: {
      maxConcurrentStreams: 20_000,
      initialStreamWindowSize: options.maxMessageBytes + 64 * 1024,
      initialConnectionWindowSize: 64 << 20,
    },
  } satisfies MessageInitShape<typeof HttpConnectionManagerSchema>;
}

/** A client's own word on what only we may say counts for nothing. */
function atTheEdge({ auth }: BootstrapOptions) {
  const stripped = [
    headers.model,
    headers.badName,
    headers.publicName,
    headers.serverName,
    headers.loadMs,
    headers.cluster,
    headers.slot,
    headers.principal,
    headers.claim,
    headers.caller,
  ].map((name) => ({ action: { case: "remove" as const, value: name } }));
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

/** `others`: scripts that routes may ask for by name instead. */
function lua(name: string, source: string, others: Readonly<Record<string, string>> = {}): HttpFilter {
  return filter(
    name,
    packAny(LuaSchema, {
      defaultSourceCode: { specifier: { case: "inlineString", value: source } },
      sourceCodes: Object.fromEntries(
        Object.entries(others).map(([other, value]) => [other, { specifier: { case: "inlineString" as const, value } }]),
      ),
      statPrefix: name.replace(".", "_"),
    }),
  );
}

function processor(name: string, options: BootstrapOptions): HttpFilter {
  return filter(
    name,
    packAny(ExternalProcessorSchema, {
      grpcService: {
        targetSpecifier: { case: "envoyGrpc", value: { clusterName: clusters.extProc } },
        // A gateway that is being restarted is asked again: a request that it held goes on waiting with its successor. The
        // pauses are random, 250 ms on average, so this is some 15 s: on a busy machine a start takes 5 s or more.
        retryPolicy: {
          retryOn: "connect-failure,refused-stream,reset,unavailable",
          numRetries: 60,
          retryBackOff: { baseInterval: duration(50), maxInterval: duration(500) },
        },
        // Tells the gateway which filter asks.
        initialMetadata: [{ key: "x-warm-filter", value: name === filters.reroute ? "reroute" : "miss" }],
      },
      statPrefix: name.replace(".", "_"),
      // Closed on failure: to send a request on unasked would be to send it to a pod without its model.
      failureModeAllow: false,
      // Rerouted requests are answered by another listener, which gives them no form.
      statusOnError: { code: name === filters.miss ? unaskedStatus : 503 },
      messageTimeout: duration(options.maxParkMs + 30_000),
      processingMode: {
        requestHeaderMode: ProcessingMode_HeaderSendMode.SEND,
        responseHeaderMode: ProcessingMode_HeaderSendMode.SKIP,
        requestBodyMode: ProcessingMode_BodySendMode.NONE,
        responseBodyMode: ProcessingMode_BodySendMode.NONE,
        requestTrailerMode: ProcessingMode_HeaderSendMode.SKIP,
        responseTrailerMode: ProcessingMode_HeaderSendMode.SKIP,
      },
      mutationRules: { allowAllRouting: true },
      forwardRules: {
        allowedHeaders: { patterns: forwarded.map((value) => ({ matchPattern: { case: "exact" as const, value } })) },
      },
    }),
  );
}

/** What the gateway needs to see of a request; the rest stays in Envoy. */
const forwarded = [
  ":path",
  ":method",
  "content-type",
  "grpc-timeout",
  "x-request-timeout-ms",
  "x-request-id",
  "traceparent",
  "mm-model-id",
  "mm-vmodel-id",
  "mm-model-id-bin",
  "mm-vmodel-id-bin",
  headers.model,
  headers.badName,
  headers.publicName,
  headers.principal,
];

/** Tells a client how long its request waited; made for misses only, so a hit's answer carries nothing. */
const mark = filter(
  filters.mark,
  packAny(HeaderMutationSchema, {
    mutations: {
      responseMutations: [
        {
          action: {
            case: "append",
            value: {
              header: { key: headers.loadMs, value: `%REQ(${headers.loadMs})%` },
              appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            },
          },
        },
      ],
    },
  }),
);

// Statistics per answer code would cost more than anything else that Envoy does for a hit.
const router = filter("envoy.filters.http.router", packAny(RouterSchema, { suppressEnvoyHeaders: true, dynamicStats: false }));

function filter(name: string, config: Any): HttpFilter {
  return { name, configType: { case: "typedConfig", value: config } };
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
        additionalResponseHeadersToLog: [headers.loadMs],
      }),
    },
  };
}

/** Scripts one behind the other: Envoy's Lua has no modules. */
function script(...names: string[]): string {
  return names.map((name) => readFileSync(new URL(name, import.meta.url), "utf8")).join("\n");
}
