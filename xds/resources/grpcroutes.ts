// Owns the routes of gRPC: the V2 service, where the message names the model, and any other service, where a header does.
import { clusters, headers } from "#envoy/names.ts";
import { clusterName, type Leg } from "./set.ts";
import {
  answerName,
  exactly,
  filtersOfNamedRequest,
  forNaming,
  marked,
  overwrite,
  type Route,
  suffixOf,
  take,
  toCluster,
  type Way,
} from "./way.ts";

/** Methods that name a model, and whether their answers name it where a field can be added to. */
const methods = [
  ["ModelInfer", true],
  ["ModelReady", false],
  ["ModelMetadata", true],
  ["ModelConfig", true],
  ["ModelStatistics", false],
  ["ModelStreamInfer", true],
] as const;
const stream = "ModelStreamInfer";
const service = "/inference.GRPCInferenceService/";

/** The model's name is in the message: the naming filter reads the slot from here and renames it there. */
export function v2Grpc(way: Way): Route[] {
  return methods.map(
    ([method, answers]): Route => ({
      name: method,
      ...(method === stream ? streamTo(way) : { ...forNaming(way), action: take(way, "grpc") }),
      match: exactly(`${service}${method}`, [], way),
      typedPerFilterConfig: filtersOfNamedRequest(way, answers),
      ...(answers ? answerName(way, `${method}:%REQ(${headers.model})%`) : {}),
    }),
  );
}

/** A call that has waited is past the naming filter, so where that has work to do it goes over the reroute listener. */
export function waitedGrpc(leg: Leg): Route[] {
  const renamed = methods.filter(([method]) => leg.slot > 0 || (method === stream && !isByHeader(leg)));
  return renamed.map(
    ([method, answers]): Route => ({
      name: `${method}-waited`,
      match: exactly(`${service}${method}`, [headers.loadMs]),
      ...(method === stream && isByHeader(leg)
        ? { action: toCluster(clusterName(leg.set, "grpc")), requestHeadersToAdd: [nameOfStream(leg, headers.publicName)] }
        : { action: toCluster(clusters.reroute) }),
      typedPerFilterConfig: filtersOfNamedRequest(leg, answers),
      ...(answers ? answerName(leg, `${method}:%REQ(${headers.publicName})%`) : {}),
    }),
  );
}

/**
 * A stream goes with a header that tells which model all its messages mean, or, where a pod of the set would not heed that,
 * the naming filter has each message say so. A stream is not mirrored: it has no end to wait for, and half of one is worth
 * nothing.
 */
function streamTo(way: Way): Pick<Route, "action" | "metadata" | "requestHeadersToAdd"> {
  const action = take({ ...way, mirrorTo: () => [] }, "grpc");
  if (!isByHeader(way)) return { action, ...forNaming(way, { by_message: "true" }) };
  const renaming = way.slot === 0 ? {} : { requestHeadersToAdd: [nameOfStream(way, headers.model)] };
  return { action, ...forNaming(way), ...renaming };
}

function isByHeader({ set }: Leg): boolean {
  return set.pods.every(({ streamsByHeader }) => streamsByHeader === true);
}

function nameOfStream(leg: Leg, header: string): ReturnType<typeof overwrite> {
  return overwrite("mm-model-id", `%REQ(${header})%${suffixOf(leg)}`);
}

/**
 * Any other service that a model server has for its models, the model named in a header. V2 calls that are not listed above
 * change or tell of the server, and the runtimes' own service loads and unloads: these go nowhere, see closedGrpc.
 */
export function anyGrpc(way: Way): Route[] {
  const method = "/[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*";
  const named = (header: string, marks: readonly string[]): Route => ({
    name: `grpc-by-${header}`,
    ...forNaming(way),
    match: marked(method, marks, way),
    action: take(way, "grpc"),
    typedPerFilterConfig: filtersOfNamedRequest(way, false),
    requestHeadersToRemove: ["mm-vmodel-id", "mm-vmodel-id-bin", "mm-model-id-bin"],
    requestHeadersToAdd: [overwrite("mm-model-id", `%REQ(${header})%${suffixOf(way)}`)],
  });
  return [named(headers.publicName, [headers.publicName, headers.loadMs, headers.model]), named(headers.model, [headers.model])];
}

/**
 * Methods whose message must name the model: the naming filter reads from here where. A call that has waited is past that
 * filter, and goes over the reroute listener, where the gateway says it.
 */
export function injectedGrpc(way: Way): Route[] {
  const injections = way.set.pods.flatMap(({ idInjections }) => [...(idInjections ?? [])]);
  return [...new Map(injections)].flatMap(([method, inject]) => {
    const common = {
      typedPerFilterConfig: filtersOfNamedRequest(way, false),
      requestHeadersToRemove: ["mm-vmodel-id", "mm-vmodel-id-bin", "mm-model-id-bin"],
    };
    return [
      {
        ...common,
        name: `${method}-waited`,
        match: exactly(`/${method}`, [headers.publicName, headers.loadMs, headers.model], way),
        action: toCluster(clusters.reroute),
      },
      {
        ...common,
        name: method,
        match: exactly(`/${method}`, [headers.model], way),
        action: take(way, "grpc"),
        ...forNaming(way, { inject }),
        requestHeadersToAdd: [overwrite("mm-model-id", `%REQ(${headers.model})%${suffixOf(way)}`)],
      },
    ];
  });
}

export const closedGrpc: readonly Route[] = [service, "/mmesh.", "/grpc.", "/envoy.", "/warmpath."].map((prefix) => ({
  name: `not ${prefix}`,
  match: { pathSpecifier: { case: "prefix", value: prefix } },
  action: {
    case: "directResponse",
    value: { status: 404, body: { specifier: { case: "inlineString", value: "this method is no inference call" } } },
  },
}));
