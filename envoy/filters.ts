// Owns the HTTP filters that several listeners use, and what all connection managers have in common.
import { readFileSync } from "node:fs";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { duration, packAny } from "#platform/any.ts";
import { HeaderValueOption_HeaderAppendAction } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import { HttpProtocolOptions_HeadersWithUnderscoresAction } from "#proto/gen/envoy/config/core/v3/protocol_pb.ts";
import { ExtensionWithMatcherSchema } from "#proto/gen/envoy/extensions/common/matching/v3/extension_matcher_pb.ts";
import {
  CompositeSchema,
  ExecuteFilterActionSchema,
} from "#proto/gen/envoy/extensions/filters/http/composite/v3/composite_pb.ts";
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
  type HttpConnectionManagerSchema,
  type HttpFilterSchema,
} from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { HttpRequestHeaderMatchInputSchema } from "#proto/gen/envoy/type/matcher/v3/http_inputs_pb.ts";
import { unaskedStatus } from "./localreplies.ts";
import { askedBy, clusters, filters, headers, priorityHeader } from "./names.ts";
import type { BootstrapOptions } from "./options.ts";
import { buildTracing } from "./tracing.ts";

export type HttpFilter = MessageInitShape<typeof HttpFilterSchema>;

/** What the connection managers of all listeners have in common. */
type Connection = Extract<MessageInitShape<typeof HttpConnectionManagerSchema>, { readonly $typeName?: never }>;

export function connection(statPrefix: string, options: BootstrapOptions): Connection {
  return {
    statPrefix,
    ...(options.tracing === undefined ? {} : { tracing: buildTracing(options.tracing) }),
    codecType: HttpConnectionManager_CodecType.AUTO,
    // A parked request is idle; it is the gateway that ends it, at the request's own deadline or maxParkMs. The same time
    // bounds headers that come slowly: a timer of their own would cost a microsecond on every hit.
    streamIdleTimeout: duration(options.maxParkMs + 60_000),
    commonHttpProtocolOptions: {
      idleTimeout: duration(600_000),
      headersWithUnderscoresAction: HttpProtocolOptions_HeadersWithUnderscoresAction.ALLOW,
    },
    // ApacheBench and the health checks of older load balancers speak it.
    httpProtocolOptions: { acceptHttp10: true, defaultHostForHttp10: "warmpath" },
    // A gRPC client has one connection, and all its calls may be waiting at once. A stream's window is also how much of it
    // Envoy keeps while a filter reads the body: a whole message, where the name is read from it.
    http2ProtocolOptions: {
      maxConcurrentStreams: 20_000,
      initialStreamWindowSize: options.maxMessageBytes + 64 * 1024,
      initialConnectionWindowSize: 64 << 20,
    },
  };
}

/** `others`: scripts that routes may ask for by name instead. */
export function lua(name: string, source: string, others: Readonly<Record<string, string>> = {}): HttpFilter {
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

/** `wire`: what the port is for where it stands; absent on internal listeners. */
export function processor(name: string, options: Pick<BootstrapOptions, "maxParkMs">, wire?: "rest" | "grpc"): HttpFilter {
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
        // Tells the gateway which filter asks, and on which port.
        initialMetadata: [
          { key: askedBy.filter, value: name === filters.reroute ? "reroute" : "miss" },
          ...(wire === undefined ? [] : [{ key: askedBy.port, value: wire }]),
        ],
      },
      statPrefix: name.replace(".", "_"),
      // Closed on failure: to send a request on unasked would be to send it to a pod without its model.
      failureModeAllow: false,
      statusOnError: { code: unaskedStatus },
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

/**
 * Filters that are made for a request only if the naming filter, which stands before them, has found no route for it. To make
 * the miss filter, just for it to stand aside, was a third of what Envoy did for a gRPC hit.
 */
export function onMiss(name: string, ...made: HttpFilter[]): HttpFilter {
  const chain = made.map(({ name = "", configType }) => {
    if (configType?.case !== "typedConfig") throw new Error(`${name} has no configuration`);
    return { name, typedConfig: configType.value };
  });
  const make = {
    name: "make",
    typedConfig: packAny(ExecuteFilterActionSchema, { filterChain: { typedConfig: chain } }),
  };
  const marked = { name: "marked", typedConfig: packAny(HttpRequestHeaderMatchInputSchema, { headerName: headers.miss }) };
  return filter(
    name,
    packAny(ExtensionWithMatcherSchema, {
      extensionConfig: { name: "composite", typedConfig: packAny(CompositeSchema, {}) },
      xdsMatcher: {
        matcherType: {
          case: "matcherTree",
          value: {
            input: marked,
            treeType: { case: "exactMatchMap", value: { map: { [missMark]: { onMatch: { case: "action", value: make } } } } },
          },
        },
      },
    }),
  );
}

/** As naming-http.lua and naming-grpc.lua write it. */
const missMark = "1";

/** What the gateway needs to see of a request; the rest stays in Envoy. */
const forwarded = [
  ":path",
  ":method",
  "content-type",
  "grpc-timeout",
  "x-request-timeout-ms",
  priorityHeader,
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
  headers.from,
  headers.isHedge,
];

/** Tells a client how long its request waited; made for misses only, so a hit's answer carries nothing. */
export const mark = filter(
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

/** Tells the gateway which placement set a request comes from that is rerouted: the endpoint that it entered by says so. */
export const origin = filter(
  filters.origin,
  packAny(HeaderMutationSchema, {
    mutations: {
      requestMutations: [
        {
          action: {
            case: "append",
            value: {
              header: { key: headers.from, value: "%DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID%" },
              appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            },
          },
        },
      ],
    },
  }),
);

// Statistics per answer code would cost more than anything else that Envoy does for a hit.
export const router = filter(
  "envoy.filters.http.router",
  packAny(RouterSchema, { suppressEnvoyHeaders: true, dynamicStats: false }),
);

export function filter(name: string, config: Any): HttpFilter {
  return { name, configType: { case: "typedConfig", value: config } };
}

/** Scripts one behind the other: Envoy's Lua has no modules. */
export function script(...names: string[]): string {
  return names.map((name) => readFileSync(new URL(name, import.meta.url), "utf8")).join("\n");
}
