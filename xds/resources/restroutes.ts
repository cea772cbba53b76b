// Owns the routes of REST: V2, V1 and OpenAI-style calls.
import { clusters, headers } from "#envoy/names.ts";
import type { Leg } from "./set.ts";
import { clusterName } from "./set.ts";
import {
  filtersOfNamedPath,
  filtersOfNamedRequest,
  forNaming,
  jsonAnswerName,
  marked,
  name,
  path,
  type Route,
  rewrite,
  suffixOf,
  take,
  toCluster,
  type Way,
} from "./way.ts";

const v2Calls = "(/versions/[A-Za-z0-9._-]+)?(/infer|/ready|/config|/stats|/generate|/generate_stream)?";
const openaiCalls = "/v1/(chat/completions|completions|embeddings)";
const fromPath = "%REQ(:path)%";
const fromBody = `%REQ(${headers.model})%`;

export function v2Rest(way: Way): Route {
  const slotted = way.slot === 0 ? {} : rewrite("^/v2/models/([^/]+)(.*)$", `/v2/models/\\1${suffixOf(way)}\\2`);
  return {
    name: "v2",
    ...forNaming(way),
    match: path(`/v2/models/${name}${v2Calls}`, way),
    action: take(way, "rest", slotted),
    typedPerFilterConfig: filtersOfNamedPath(way),
    ...jsonAnswerName(way, fromPath),
  };
}

// The naming filter has put a slash before the verb, so that the name is a path segment of its own; here it is undone.
export function v1Verb(way: Way): Route {
  return {
    name: "v1-verb",
    ...forNaming(way),
    match: path(`/v1/models/${name}/:(predict|explain)`, way),
    action: take(way, "rest", rewrite("^/v1/models/([^/]+)/:(.*)$", `/v1/models/\\1${suffixOf(way)}:\\2`)),
    typedPerFilterConfig: filtersOfNamedRequest(way),
    ...jsonAnswerName(way, fromPath),
  };
}

export function v1Model(way: Way): Route {
  const slotted = way.slot === 0 ? {} : rewrite("^/v1/models/([^/]+)$", `/v1/models/\\1${suffixOf(way)}`);
  return {
    name: "v1",
    ...forNaming(way),
    match: path(`/v1/models/${name}`, way),
    action: take(way, "rest", slotted),
    typedPerFilterConfig: filtersOfNamedRequest(way),
    ...jsonAnswerName(way, fromPath),
  };
}

// The naming filter has put the name, which is in the body, in front; only it can set the header. It reads the slot from
// here and renames the model in the body.
export function openai(way: Way): Route {
  return {
    name: "openai",
    ...forNaming(way),
    match: marked(`/openai/models/${name}${openaiCalls}`, [headers.model], way),
    action: take(way, "rest", rewrite("^/openai/models/[^/]+", "")),
    typedPerFilterConfig: filtersOfNamedRequest(way),
    ...jsonAnswerName(way, fromBody),
  };
}

/** A request that has waited comes by its set's entry: /v2/models/ENTRY/NAME/infer. The header is set by the gateway only. */
export function waitedRest(leg: Leg): Route[] {
  const suffix = suffixOf(leg);
  const cluster = clusterName(leg.set, "rest");
  const route = (kind: string, regex: string, from: string, to: string): Route => ({
    name: `${kind}-waited`,
    match: marked(regex, [headers.loadMs]),
    action: toCluster(cluster, rewrite(from, to)),
    typedPerFilterConfig: filtersOfNamedRequest(leg),
    ...jsonAnswerName(leg, kind === "openai" ? fromBody : fromPath),
  });
  const bodyNamed = route("openai", `/openai/models/~[^/]+/${name}${openaiCalls}`, "^/openai/models/~[^/]+/[^/]+", "");
  return [
    route("v2", `/v2/models/~[^/]+/${name}${v2Calls}`, "^/v2/models/~[^/]+/([^/]+)(.*)$", `/v2/models/\\1${suffix}\\2`),
    route(
      "v1-verb",
      `/v1/models/~[^/]+/${name}/:(predict|explain)`,
      "^/v1/models/~[^/]+/([^/]+)/:(.*)$",
      `/v1/models/\\1${suffix}:\\2`,
    ),
    // It is past the naming filter, which would rename the model in the body: so it goes where that is done as well.
    leg.slot === 0
      ? bodyNamed
      : { ...bodyNamed, action: toCluster(clusters.reroute, rewrite("^/openai/models/~[^/]+/[^/]+", "")) },
    route("v1", `/v1/models/~[^/]+/${name}`, "^/v1/models/~[^/]+/([^/]+)$", `/v1/models/\\1${suffix}`),
  ];
}
