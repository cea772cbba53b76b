// Owns what the routes of all protocols have in common: one leg of a plan, and the parts that routes to it are made from.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { filters, headers } from "#envoy/names.ts";
import { duration, packAny } from "#platform/any.ts";
import { HeaderValueOption_HeaderAppendAction, type HeaderValueOptionSchema } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import {
  FilterConfigSchema,
  type HeaderMatcher,
  HeaderMatcherSchema,
  type RouteAction,
  type RouteAction_RequestMirrorPolicySchema,
  RouteActionSchema,
  type RouteMatch,
  RouteMatchSchema,
  type RouteSchema,
} from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { LuaPerRouteSchema } from "#proto/gen/envoy/extensions/filters/http/lua/v3/lua_pb.ts";
import { clusterName, type Leg, type Wire } from "./set.ts";

export type Route = MessageInitShape<typeof RouteSchema>;
export type ToCluster = { readonly case: "route"; readonly value: RouteAction };

type Match = MessageInitShape<typeof RouteMatchSchema>;
type Rewrite = Pick<MessageInitShape<typeof RouteActionSchema>, "regexRewrite">;

/** One leg of a plan, and which requests take it. */
export interface Way extends Leg {
  /** Undefined: all that came so far. */
  readonly draw: Match["runtimeFraction"];
  /** Callers prove who they are: a request for a named path may find its route only when its filters exist. */
  readonly auth: boolean;
  /** Some tenants are held to a number of requests per second. */
  readonly limited: boolean;
  readonly mirrorTo: (wire: Wire) => readonly MessageInitShape<typeof RouteAction_RequestMirrorPolicySchema>[];
}

/** No `~`: that is for entries and slots, never for clients. */
export const name = "[A-Za-z0-9._-]+";

export function suffixOf({ slot }: Leg): string {
  return slot === 0 ? "" : `~${slot}`;
}

/** To the way's set, after `rewriting` what it gets. */
export function take(way: Way, wire: Wire, rewriting: Rewrite = {}): ToCluster {
  return toCluster(clusterName(way.set, wire), {
    ...rewriting,
    requestMirrorPolicies: [...way.mirrorTo(wire)],
  });
}

type MoreAction = Pick<
  Extract<MessageInitShape<typeof RouteActionSchema>, { readonly $typeName?: never }>,
  "regexRewrite" | "requestMirrorPolicies"
>;

export function toCluster(cluster: string, more: MoreAction = {}): ToCluster {
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

export function path(regex: string, { draw }: Pick<Way, "draw">): RouteMatch {
  return create(RouteMatchSchema, { pathSpecifier: { case: "safeRegex", value: { regex } }, ...drawn(draw) });
}

export function marked(regex: string, marks: readonly string[], { draw }: Partial<Pick<Way, "draw">> = {}): RouteMatch {
  return create(RouteMatchSchema, {
    pathSpecifier: { case: "safeRegex", value: { regex } },
    headers: marks.map(present),
    ...drawn(draw),
  });
}

export function exactly(path: string, marks: readonly string[], { draw }: Partial<Pick<Way, "draw">> = {}): RouteMatch {
  return create(RouteMatchSchema, { pathSpecifier: { case: "path", value: path }, headers: marks.map(present), ...drawn(draw) });
}

function drawn(draw: Way["draw"]): Pick<Match, "runtimeFraction"> {
  return draw === undefined ? {} : { runtimeFraction: draw };
}

function present(name: string): HeaderMatcher {
  return create(HeaderMatcherSchema, { name, headerMatchSpecifier: { case: "presentMatch", value: true } });
}

export function rewrite(regex: string, substitution: string): Rewrite {
  return { regexRewrite: { pattern: { regex }, substitution } };
}

export function overwrite(key: string, value: string): MessageInitShape<typeof HeaderValueOptionSchema> {
  return { header: { key, value }, appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD };
}

const skip = (): Any => packAny(FilterConfigSchema, { disabled: true });
/** The naming filter then has another script, which makes the answer say the public name. */
const answerOn = (): Any => packAny(LuaPerRouteSchema, { override: { case: "name", value: "answer" } });

/**
 * A hit whose path names the model finds its route before any filter exists, so none of these is made for it: but the
 * naming filter where a slot makes a model server answer under another name than the public one.
 */
export function filtersOfNamedPath({ slot, auth, limited }: Way): Record<string, Any> {
  return {
    [filters.naming]: slot === 0 ? skip() : answerOn(),
    [filters.miss]: skip(),
    // Of who has proved enough before any filter: by a certificate, or since the model is open to everybody.
    ...(auth ? { [filters.keys]: skip(), [filters.jwt]: skip(), [filters.claim]: skip() } : {}),
    ...(auth && !limited ? { [filters.limit]: skip() } : {}),
  };
}

/** A hit that the naming filter named: that filter exists already, and another script of its makes the answer. */
export function filtersOfNamedRequest({ slot }: Leg, answers = true): Record<string, Any> {
  return slot === 0 || !answers ? {} : { [filters.naming]: answerOn() };
}

/** What the naming filter is to know of a route: its slot, which says too that it leads to a model, so the request is no miss. */
export function forNaming({ slot }: Leg, more: Readonly<Record<string, string>> = {}): Pick<Route, "metadata"> {
  return { metadata: { filterMetadata: { [filters.naming]: { slot: `${slot}`, ...more } } } };
}

/** `where`: a format that holds the public name, for the script that makes the answer say it. */
export function answerName({ slot }: Leg, where: string): Pick<Route, "responseHeadersToAdd" | "requestHeadersToRemove"> {
  return slot === 0 ? {} : { responseHeadersToAdd: [overwrite(headers.answerName, where)] };
}

/** As answerName, over REST: a compressed answer could not be read. */
export function jsonAnswerName(leg: Leg, where: string): Pick<Route, "responseHeadersToAdd" | "requestHeadersToRemove"> {
  return leg.slot === 0 ? {} : { ...answerName(leg, where), requestHeadersToRemove: ["accept-encoding"] };
}
