// Owns the route configuration of a plan: which requests pass to a model server, how a slot renames them, what is retried,
// which share of them goes where. It is shared by every model with that plan, so it names no model.
// Only inference passes: a path that no route here knows gets no further, whatever the model server offers there.
//
// A share is a route of its own before that of the active revision: a slot's rule for renaming belongs to a route. Envoy
// draws one number for a request and holds it against every share, however often the route is looked up; so the shares'
// bounds add up. The mirror is drawn from other digits of that number, so that it takes the same part of every share.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Patience, patienceMs } from "#core/patience.ts";
import { clusters, headers } from "#envoy/names.ts";
import { onceElsewhere, retryBodyBytes } from "#envoy/retries.ts";
import { duration } from "#platform/any.ts";
import { HeaderValueOption_HeaderAppendAction } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import type {
  HeaderMatcherSchema,
  RetryPolicySchema,
  RouteAction_RequestMirrorPolicySchema,
} from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { type RouteConfiguration, RouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/route_pb.ts";
import { FractionalPercent_DenominatorType } from "#proto/gen/envoy/type/v3/percent_pb.ts";
import { anyGrpc, closedGrpc, injectedGrpc, v2Grpc, waitedGrpc } from "./grpcroutes.ts";
import { openai, v1Model, v1Verb, v2Rest, waitedRest } from "./restroutes.ts";
import { clusterName, isPlain, type Leg, type LegShare, type Plan, planLegs, planName, type Wire } from "./set.ts";
import type { Route, Way } from "./way.ts";

/** What all routes have in common. */
export type Edge = Pick<Way, "auth" | "limited">;

export function buildRoutes(plan: Plan, edge: Edge): RouteConfiguration {
  const { active, patience } = plan;
  const plain = isPlain(plan);
  const ways = buildWays(plan, edge);
  const all = (build: (way: Way) => readonly Route[]): readonly Route[] => ways.flatMap(build);
  return create(RouteConfigurationSchema, {
    name: planName(plan),
    virtualHosts: [
      {
        name: "models",
        domains: ["*"],
        retryPolicy: buildRetry(
          planLegs(plan).some(({ set }) => set.pods.some(({ absenceByStatus }) => absenceByStatus)),
          patience,
        ),
        // The first answer counts, and nothing that a model server works on is cut off.
        hedgePolicy: { hedgeOnPerTryTimeout: true },
        includeIsTimeoutRetryHeader: true,
        requestBodyBufferLimit: BigInt(retryBodyBytes),
        routes: [
          ...all((way) => [v2Rest(way)]),
          ...all((way) => [v1Verb(way)]),
          ...all((way) => [v1Model(way)]),
          ...(plain ? waitedGrpc(active) : []),
          ...all(v2Grpc),
          ...closedGrpc,
          ...all(injectedGrpc),
          ...all(anyGrpc),
          ...all((way) => [openai(way)]),
          // Requests that have waited come by the entry of one set and slot, which is no mix.
          ...(plain ? waitedRest(active) : []),
        ],
      },
    ],
  });
}

function buildWays({ active, split, mirror }: Plan, edge: Edge): readonly Way[] {
  let sum = 0;
  const shares = split.map((share) => {
    sum += share.percent;
    return buildWay(share, sum, mirror, edge);
  });
  return [...shares, buildWay(active, undefined, mirror, edge)];
}

/** `percent`: up to which of a hundred draws it takes; undefined: it takes what is left. */
function buildWay({ set, slot }: Leg, percent: number | undefined, mirror: LegShare | undefined, edge: Edge): Way {
  return {
    set,
    slot,
    ...edge,
    draw:
      percent === undefined
        ? undefined
        : { defaultValue: { numerator: percent, denominator: FractionalPercent_DenominatorType.HUNDRED } },
    mirrorTo: (wire) => (mirror === undefined ? [] : [buildMirror(mirror, wire)]),
  };
}

/** By the internal listener for mirrored requests, which gives them the name of the mirror's slot. */
function buildMirror(
  { set, slot, percent }: LegShare,
  wire: Wire,
): MessageInitShape<typeof RouteAction_RequestMirrorPolicySchema> {
  const overwrite = (key: string, value: string) => ({
    action: {
      case: "append" as const,
      value: { header: { key, value }, appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD },
    },
  });
  return {
    cluster: clusters.mirror,
    // In millionths: of a number that is drawn at random the last two digits and those before say nothing of each other.
    runtimeFraction: {
      defaultValue: { numerator: percent * 10_000, denominator: FractionalPercent_DenominatorType.MILLION },
    },
    disableShadowHostSuffixAppend: true,
    requestHeadersMutations: [overwrite(headers.cluster, clusterName(set, wire)), overwrite(headers.slot, `${slot}`)],
  };
}

type Header = MessageInitShape<typeof HeaderMatcherSchema>;

/**
 * How foreign model servers say that a model is not there: 404; over gRPC NOT_FOUND, or with other codes in words (older
 * Triton: UNAVAILABLE, MLServer: INVALID_ARGUMENT). The gateway then asks the pod; one that does hold the model gets the
 * request again, and its answer is the answer.
 */
const absent: readonly Header[] = [
  exactHeader(":status", "404"),
  exactHeader("grpc-status", "5"),
  {
    name: "grpc-message",
    headerMatchSpecifier: {
      case: "stringMatch",
      value: { matchPattern: { case: "safeRegex", value: { regex: "(Request for unknown model|Model .+ not found).*" } } },
    },
  },
];

function exactHeader(name: string, value: string): Header {
  return {
    name,
    headerMatchSpecifier: { case: "stringMatch", value: { matchPattern: { case: "exact", value } } },
  };
}

/**
 * A failed try goes to the reroute listener, where the gateway finds a pod that holds the model or has it loaded.
 *
 * A try without an answer within the patience of its model goes on, and a second one (a hedge) waits beside it at the
 * reroute listener until the gateway sees that the pod is lost. So there is one more try and no second: that would be
 * another pod of the set, and a long inference would be computed twice.
 */
function buildRetry(absenceByStatus: boolean, patience: Patience): MessageInitShape<typeof RetryPolicySchema> {
  const once = onceElsewhere();
  const retriableHeaders = [...(once.retriableHeaders ?? []), ...(absenceByStatus ? absent : [])];
  return { ...once, retriableHeaders, perTryTimeout: duration(patienceMs[patience]) };
}
