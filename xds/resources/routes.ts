// Owns the route configuration of a placement set and slot: which requests pass to a model server, how a slot renames
// them, what is retried. It is shared by every model in that set and slot, so it names no model.
// Only inference passes: a path that no route here knows gets no further, whatever the model server offers there.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { clusters, filters, headers } from "#envoy/names.ts";
import { duration, packAny } from "#platform/any.ts";
import { HeaderValueOption_HeaderAppendAction } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import {
  FilterConfigSchema,
  type HeaderMatcher,
  HeaderMatcherSchema,
  type RetryPolicy_RetryHostPredicateSchema,
  type RetryPolicySchema,
  type RouteAction,
  RouteActionSchema,
  type RouteMatch,
  RouteMatchSchema,
  type RouteSchema,
} from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { type RouteConfiguration, RouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/route_pb.ts";
import { ExtProcPerRouteSchema } from "#proto/gen/envoy/extensions/filters/http/ext_proc/v3/ext_proc_pb.ts";
import { PreviousHostsPredicateSchema } from "#proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.ts";
import { PreviousPrioritiesConfigSchema } from "#proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.ts";
import { clusterName, type PlacementSet, routesName, type Wire } from "./set.ts";

type Route = MessageInitShape<typeof RouteSchema>;
type Action = MessageInitShape<typeof RouteActionSchema>;

/** Largest request body, in bytes, that is kept for another try. */
export const retryBodyBytes = 1 << 20;

export function buildRoutes(set: PlacementSet, slot: number): RouteConfiguration {
  return create(RouteConfigurationSchema, {
    name: routesName(set, slot),
    virtualHosts: [
      {
        name: "models",
        domains: ["*"],
        retryPolicy: buildRetry(set),
        requestBodyBufferLimit: BigInt(retryBodyBytes),
        routes: [
          v2Rest(set, slot),
          v1Verb(set, slot),
          v1Model(set, slot),
          ...v2Grpc(set, slot),
          ...anyGrpc(set, slot),
          openai(set),
          ...waited(set, slot),
        ],
      },
    ],
  });
}

/**
 * A failed try goes to another pod of the set, then to the reroute listener. Retried is what cannot have done any work
 * (no connection, stream refused, model not there) and a reset before any part of the answer: inference computes and
 * keeps nothing, so a pod that died while computing may be asked again elsewhere.
 */
function buildRetry(set: PlacementSet): MessageInitShape<typeof RetryPolicySchema> {
  return {
    retryOn: "connect-failure,refused-stream,reset,retriable-headers",
    retriableHeaders: [{ name: headers.notHere, headerMatchSpecifier: { case: "presentMatch", value: true } }],
    numRetries: Math.min(set.pods.length, 2) + 1,
    retryPriority: {
      name: "envoy.retry_priorities.previous_priorities",
      configType: {
        case: "typedConfig",
        value: packAny(PreviousPrioritiesConfigSchema, { updateFrequency: Math.min(set.pods.length, 2) }),
      },
    },
    // With one pod there is no other in the set, and asking costs each hit a microsecond.
    ...(set.pods.length > 1 ? { retryHostPredicate: [otherPod], hostSelectionRetryMaxAttempts: 3n } : {}),
    retryBackOff: { baseInterval: duration(5), maxInterval: duration(50) },
  };
}

/** No `~`: that is for entries and slots, never for clients. */
const name = "[A-Za-z0-9._-]+";
const v2Calls = "(/versions/[A-Za-z0-9._-]+)?(/infer|/ready|/config|/stats|/generate|/generate_stream)?";

const otherPod: MessageInitShape<typeof RetryPolicy_RetryHostPredicateSchema> = {
  name: "envoy.retry_host_predicates.previous_hosts",
  configType: { case: "typedConfig", value: packAny(PreviousHostsPredicateSchema, {}) },
};

function v2Rest(set: PlacementSet, slot: number): Route {
  const slotted = slot === 0 ? {} : rewrite("^/v2/models/([^/]+)(.*)$", `/v2/models/\\1~${slot}\\2`);
  return {
    name: "v2",
    match: path(`/v2/models/${name}${v2Calls}`),
    action: toSet(set, "rest", slotted),
    typedPerFilterConfig: notCreated,
  };
}

// The naming filter has put a slash before the verb, so that the name is a path segment of its own; here it is undone.
function v1Verb(set: PlacementSet, slot: number): Route {
  const suffix = slot === 0 ? "" : `~${slot}`;
  return {
    name: "v1-verb",
    match: path(`/v1/models/${name}/:(predict|explain)`),
    action: toSet(set, "rest", rewrite("^/v1/models/([^/]+)/:(.*)$", `/v1/models/\\1${suffix}:\\2`)),
    typedPerFilterConfig: switchedOff,
  };
}

function v1Model(set: PlacementSet, slot: number): Route {
  const slotted = slot === 0 ? {} : rewrite("^/v1/models/([^/]+)$", `/v1/models/\\1~${slot}`);
  return { name: "v1", match: path(`/v1/models/${name}`), action: toSet(set, "rest", slotted), typedPerFilterConfig: notCreated };
}

const openaiCalls = "/v1/(chat/completions|completions|embeddings)";

// The naming filter has put the name, which is in the body, in front; only it can set the header.
function openai(set: PlacementSet): Route {
  return {
    name: "openai",
    match: marked(`/openai/models/${name}${openaiCalls}`, headers.model),
    action: toSet(set, "rest", rewrite("^/openai/models/[^/]+", "")),
    typedPerFilterConfig: switchedOff,
  };
}

function marked(regex: string, ...marks: string[]): RouteMatch {
  return create(RouteMatchSchema, { pathSpecifier: { case: "safeRegex", value: { regex } }, headers: marks.map(present) });
}

function exactly(path: string, header?: string): RouteMatch {
  const headers = header === undefined ? [] : [present(header)];
  return create(RouteMatchSchema, { pathSpecifier: { case: "path", value: path }, headers });
}

function present(name: string): HeaderMatcher {
  return create(HeaderMatcherSchema, { name, headerMatchSpecifier: { case: "presentMatch", value: true } });
}

// A request that has waited comes by its set's entry: /v2/models/ENTRY/NAME/infer. The header is set by the gateway only.
function waited(set: PlacementSet, slot: number): Route[] {
  const suffix = slot === 0 ? "" : `~${slot}`;
  const match = (regex: string): RouteMatch => marked(regex, headers.loadMs);
  return [
    {
      name: "v2-waited",
      match: match(`/v2/models/~[^/]+/${name}${v2Calls}`),
      action: toSet(set, "rest", rewrite("^/v2/models/~[^/]+/([^/]+)(.*)$", `/v2/models/\\1${suffix}\\2`)),
      typedPerFilterConfig: switchedOff,
    },
    {
      name: "v1-verb-waited",
      match: match(`/v1/models/~[^/]+/${name}/:(predict|explain)`),
      action: toSet(set, "rest", rewrite("^/v1/models/~[^/]+/([^/]+)/:(.*)$", `/v1/models/\\1${suffix}:\\2`)),
      typedPerFilterConfig: switchedOff,
    },
    {
      name: "openai-waited",
      match: match(`/openai/models/~[^/]+/${name}${openaiCalls}`),
      action: toSet(set, "rest", rewrite("^/openai/models/~[^/]+/[^/]+", "")),
      typedPerFilterConfig: switchedOff,
    },
    {
      name: "v1-waited",
      match: match(`/v1/models/~[^/]+/${name}`),
      action: toSet(set, "rest", rewrite("^/v1/models/~[^/]+/([^/]+)$", `/v1/models/\\1${suffix}`)),
      typedPerFilterConfig: switchedOff,
    },
  ];
}

const grpcMethods = ["ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelStreamInfer"];

// The model's name is in the message: the naming filter reads the slot from here and renames it there. A call that has
// waited is past that filter already, so with a slot it goes over the reroute listener, which can do it as well.
function v2Grpc(set: PlacementSet, slot: number): Route[] {
  return grpcMethods.flatMap((method): Route[] => {
    const path = `/inference.GRPCInferenceService/${method}`;
    const action = toSet(set, "grpc", {});
    if (slot === 0) return [{ name: method, match: exactly(path), action, typedPerFilterConfig: switchedOff }];
    const metadata = { filterMetadata: { [filters.naming]: { slot: `${slot}` } } };
    return [
      {
        name: `${method}-waited`,
        match: exactly(path, headers.loadMs),
        action: toCluster(clusters.reroute),
        typedPerFilterConfig: switchedOff,
      },
      { name: method, metadata, match: exactly(path), action, typedPerFilterConfig: switchedOff },
    ];
  });
}

/**
 * Any other service that a model server has for its models, the model named in a header. V2 calls that are not listed above
 * change or tell of the server, and the runtimes' own service loads and unloads: these go nowhere.
 */
function anyGrpc(set: PlacementSet, slot: number): Route[] {
  const suffix = slot === 0 ? "" : `~${slot}`;
  const method = "/[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*";
  const named = (header: string, ...present: string[]): Route => ({
    name: `grpc-by-${header}`,
    match: marked(method, header, ...present),
    action: toSet(set, "grpc", {}),
    typedPerFilterConfig: switchedOff,
    requestHeadersToRemove: ["mm-vmodel-id", "mm-vmodel-id-bin", "mm-model-id-bin"],
    requestHeadersToAdd: [
      {
        header: { key: "mm-model-id", value: `%REQ(${header})%${suffix}` },
        appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
      },
    ],
  });
  return [
    ...["/inference.GRPCInferenceService/", "/mmesh.", "/grpc.", "/envoy.", "/warmpath."].map(nowhere),
    named(headers.publicName, headers.loadMs, headers.model),
    named(headers.model),
  ];
}

function nowhere(prefix: string): Route {
  return {
    name: `not ${prefix}`,
    match: { pathSpecifier: { case: "prefix", value: prefix } },
    action: {
      case: "directResponse",
      value: { status: 404, body: { specifier: { case: "inlineString", value: "this method is no inference call" } } },
    },
  };
}

type ToCluster = { readonly case: "route"; readonly value: RouteAction };

function toSet(set: PlacementSet, wire: Wire, more: Pick<Action, "regexRewrite">): ToCluster {
  return toCluster(clusterName(set, wire), more);
}

function toCluster(cluster: string, more: Pick<Action, "regexRewrite"> = {}): ToCluster {
  return {
    case: "route",
    value: create(RouteActionSchema, {
      clusterSpecifier: { case: "cluster", value: cluster },
      // How long inference may take is the client's to say.
      timeout: duration(0),
      maxStreamDuration: { grpcTimeoutHeaderMax: duration(0) },
      ...more,
    }),
  };
}

function path(regex: string): NonNullable<Route["match"]> {
  return { pathSpecifier: { case: "safeRegex", value: { regex } } };
}

function rewrite(regex: string, substitution: string): Pick<Action, "regexRewrite"> {
  return { regexRewrite: { pattern: { regex }, substitution } };
}

const skip = (): Any => packAny(FilterConfigSchema, { disabled: true });

// A hit whose path names the model finds its route before any filter exists, so none of these is made for it.
const notCreated: Record<string, Any> = {
  [filters.naming]: skip(),
  [filters.miss]: skip(),
  [filters.mark]: skip(),
};

// A hit that the naming filter named has its filters already: the miss filter is told at run time to stand aside.
const switchedOff: Record<string, Any> = {
  [filters.miss]: packAny(ExtProcPerRouteSchema, { override: { case: "disabled", value: true } }),
};
