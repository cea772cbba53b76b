// Owns the internal listeners, which requests enter from this Envoy's own routes: to be rerouted or
// mirrored. Each sends on to the cluster that a header of ours names.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { patienceMs } from "#core/patience.ts";
import { duration, packAny } from "#platform/any.ts";
import type { ListenerSchema } from "#proto/gen/envoy/config/listener/v3/listener_pb.ts";
import type { HeaderMatcherSchema, RouteActionSchema } from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { HttpConnectionManagerSchema } from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { connection, type HttpFilter, lua, mark, origin, processor, router, script } from "./filters.ts";
import { innerErrors } from "./localreplies.ts";
import { filters, headers, lastPrefix, mirrorListener, rerouteListener } from "./names.ts";
import type { BootstrapOptions } from "./options.ts";
import { onceElsewhere, retryBodyBytes, whenSilent } from "./retries.ts";

type Listener = MessageInitShape<typeof ListenerSchema>;

export function buildInnerListeners(options: BootstrapOptions): Listener[] {
  return [reroute(options), mirror(options)];
}

/** Where a request goes when every pod of its set failed it: the gateway finds or loads a copy and names its cluster. */
function reroute(options: BootstrapOptions): Listener {
  return inner(
    rerouteListener,
    [
      origin,
      processor(filters.reroute, options),
      lua(filters.slot, script("message.lua", "json.lua", "body.lua", "frames.lua", "agree.lua", "slot.lua")),
      mark,
      router,
    ],
    [
      { toCluster: lastPrefix, action: hedged(whenSilent()) },
      { toCluster: "", action: hedged(onceElsewhere()) },
    ],
    options,
  );
}

/** How long a copy of a request may take. */
const mirrorMs = 60_000;

/** Where copies of requests go: to the revision that mirrors, under its name. No gateway is asked, nothing tried again. */
function mirror(options: BootstrapOptions): Listener {
  return inner(
    mirrorListener,
    [lua(filters.mirror, script("message.lua", "json.lua", "body.lua", "mirror.lua")), router],
    [{ toCluster: "", action: { timeout: duration(mirrorMs) } }],
    options,
  );
}

type Action = Pick<
  Extract<MessageInitShape<typeof RouteActionSchema>, { readonly $typeName?: never }>,
  "timeout" | "maxStreamDuration" | "retryPolicy" | "hedgePolicy"
>;

/** The pod that the gateway found may stand still as well. The request has been to the gateway anyway: it is asked again soon. */
const hedged = (retryPolicy: ReturnType<typeof onceElsewhere>): Action => ({
  ...untimed,
  retryPolicy: { ...retryPolicy, perTryTimeout: duration(patienceMs[0]) },
  hedgePolicy: { hedgeOnPerTryTimeout: true },
});

const untimed: Action = { timeout: duration(0), maxStreamDuration: { grpcTimeoutHeaderMax: duration(0) } };

interface InnerRoute {
  /** How the names of the clusters begin that it leads to. */
  readonly toCluster: string;
  readonly action: Action;
}

function inner(name: string, httpFilters: HttpFilter[], routes: readonly InnerRoute[], options: BootstrapOptions): Listener {
  const virtualHost = {
    name,
    domains: ["*"],
    includeIsTimeoutRetryHeader: true,
    requestBodyBufferLimit: BigInt(retryBodyBytes),
    routes: routes.map(({ toCluster, action }) => ({
      match: {
        pathSpecifier: { case: "prefix" as const, value: "/" },
        headers: toCluster === "" ? [] : [clusterBegins(toCluster)],
      },
      requestHeadersToRemove: [headers.cluster, headers.slot, headers.from, headers.isHedge],
      action: {
        case: "route" as const,
        value: { clusterSpecifier: { case: "clusterHeader" as const, value: headers.cluster }, ...action },
      },
    })),
  };
  const manager = packAny(HttpConnectionManagerSchema, {
    ...connection(name.replace("-", "_"), options),
    localReplyConfig: innerErrors,
    generateRequestId: false,
    preserveExternalRequestId: true,
    routeSpecifier: { case: "routeConfig", value: { name, validateClusters: false, virtualHosts: [virtualHost] } },
    httpFilters,
  });
  return {
    name,
    listenerSpecifier: { case: "internalListener", value: {} },
    perConnectionBufferLimitBytes: options.maxMessageBytes + 64 * 1024,
    filterChains: [{ filters: [{ name: "http", configType: { case: "typedConfig", value: manager } }] }],
  };
}

function clusterBegins(value: string): MessageInitShape<typeof HeaderMatcherSchema> {
  return {
    name: headers.cluster,
    headerMatchSpecifier: { case: "stringMatch", value: { matchPattern: { case: "prefix", value } } },
  };
}
