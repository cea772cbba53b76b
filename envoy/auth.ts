// Owns how Envoy finds out who calls: from a client's certificate before anything else, from an API key or a JSON Web Token
// by filters of its own. Either ends in the header x-warm-principal, which is part of the scope key: a model is simply not
// found for who has not been let in, and a hit needs no further check. Who is let in is the gateway's to decide, at the
// first request of a principal for a model.
import { readFileSync } from "node:fs";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { anonymous, fromCertificate, isPrincipal } from "#core/access.ts";
import { duration, packAny } from "#platform/any.ts";
import type { ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { HeaderMutationSchema } from "#proto/gen/envoy/config/common/mutation_rules/v3/mutation_rules_pb.ts";
import { HeaderValueOption_HeaderAppendAction } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import { type TypedExtensionConfig, TypedExtensionConfigSchema } from "#proto/gen/envoy/config/core/v3/extension_pb.ts";
import {
  JwtAuthenticationSchema,
  type JwtProviderSchema,
  type JwtRequirementSchema,
} from "#proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.ts";
import { LuaSchema } from "#proto/gen/envoy/extensions/filters/http/lua/v3/lua_pb.ts";
import type { HttpFilterSchema } from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { filters, headers, healthCheck, serverMethods, serverPaths } from "./names.ts";

import { buildOutsideCluster } from "./outside.ts";
import { overAds } from "./ways.ts";

export type Jwks =
  | { readonly kind: "file"; readonly file: string }
  /** Fetched by Envoy, in the background, and again every `cacheSeconds`. */
  | { readonly kind: "uri"; readonly uri: URL; readonly cacheSeconds: number; readonly caFile: string };

export interface JwtIssuer {
  readonly name: string;
  readonly issuer: string;
  readonly audiences: readonly string[];
  readonly jwks: Jwks;
  /** The claim that names the principal. */
  readonly principalClaim: string;
  /**
   * Of so many tokens, for each worker of Envoy, the signature is checked once and not with each request; the rest always is.
   * A token that is remembered outlives a withdrawal of the key that signed it, until its own end.
   */
  readonly rememberTokens: number;
}

export interface AuthOptions {
  readonly jwt: readonly JwtIssuer[];
  readonly apiKeys: boolean;
  /** Which subject alternative name of a client's certificate is its principal. */
  readonly clientCertificates: "dns" | "uri" | undefined;
}

/** The principal of every request, before any filter: from its certificate, else nobody. */
export function principalAtTheEdge(auth: AuthOptions): MessageInitShape<typeof HeaderMutationSchema> {
  const values = {
    dns: `${fromCertificate}%DOWNSTREAM_PEER_DNS_SAN%`,
    uri: `${fromCertificate}%DOWNSTREAM_PEER_URI_SAN%`,
  };
  return {
    action: {
      case: "append",
      value: {
        header: {
          key: headers.principal,
          value: auth.clientCertificates === undefined ? anonymous : values[auth.clientCertificates],
        },
        appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
      },
    },
  };
}

export function buildAuthFilters(auth: AuthOptions): MessageInitShape<typeof HttpFilterSchema>[] {
  return [...(auth.apiKeys ? [keysFilter] : []), ...(auth.jwt.length === 0 ? [] : [jwtFilter(auth.jwt), claimFilter])];
}

/** Its content comes over xDS: it changes with every key. */
const keysFilter: MessageInitShape<typeof HttpFilterSchema> = {
  name: filters.keys,
  configType: {
    case: "configDiscovery",
    value: { configSource: overAds, typeUrls: ["type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"] },
  },
};

const claimFilter: MessageInitShape<typeof HttpFilterSchema> = { ...keysFilter, name: filters.claim };

export interface KnownKey {
  /** SHA-256 in hex. */
  readonly hash: string;
  readonly principal: string;
  /** Seconds since 1970; 0 for none. */
  readonly endsAt: number;
}

const script = (name: string): string => readFileSync(new URL(name, import.meta.url), "utf8");
const [strangersScript, keysScript, claimScript] = [script("strangers.lua"), script("keys.lua"), script("claim.lua")];
const hashForm = /^[0-9a-f]{64}$/;

/** What is told to who has proved nothing. */
export const unprovedReason = "this needs an API key, a token or a client certificate";

/** `closed`: nothing is open to who has proved nothing, and the script is the last that could find out who calls. */
function strangers(closed: boolean): string {
  const open = [...serverPaths, healthCheck, ...serverMethods.map((method) => `/inference.GRPCInferenceService/${method}`)];
  const table = open.map((path) => `["${path}"]=true`).join(",");
  return `local CLOSED, REASON = ${closed}, "${unprovedReason}"\nlocal OPEN = {${table}}\n${strangersScript}`;
}

/** The claim filter's content. */
export function buildClaim(closed: boolean): TypedExtensionConfig {
  return luaExtension(filters.claim, "warm_claim", `${strangers(closed)}\n${claimScript}`);
}

/** The keys filter's content: the script and the table of keys. Its cost is of all keys, once for each change of one. */
export function buildKeys(keys: Iterable<KnownKey>, closed: boolean): TypedExtensionConfig {
  const lines: string[] = [];
  for (const { hash, principal, endsAt } of keys) {
    // What becomes a program must not be able to be one.
    if (!hashForm.test(hash) || !isPrincipal(principal) || !Number.isSafeInteger(endsAt)) continue;
    lines.push(`["${hash}"]={"${principal}",${endsAt}},`);
  }
  const table = `local KEYS = {\n${lines.toSorted().join("\n")}\n}`;
  return luaExtension(filters.keys, "warm_keys", `${table}\n${strangers(closed)}\n${keysScript}`);
}

function luaExtension(name: string, statPrefix: string, source: string): TypedExtensionConfig {
  return create(TypedExtensionConfigSchema, {
    name,
    typedConfig: packAny(LuaSchema, {
      defaultSourceCode: { specifier: { case: "inlineString", value: source } },
      statPrefix,
    }),
  });
}

function jwtFilter(issuers: readonly JwtIssuer[]): MessageInitShape<typeof HttpFilterSchema> {
  const requirements: MessageInitShape<typeof JwtRequirementSchema>[] = issuers.map(({ name }) => ({
    requiresType: { case: "providerName", value: name },
  }));
  // A request without a token goes on as nobody; one with a bad token does not.
  requirements.push({ requiresType: { case: "allowMissing", value: {} } });
  return {
    name: filters.jwt,
    configType: {
      case: "typedConfig",
      value: packAny(JwtAuthenticationSchema, {
        providers: Object.fromEntries(issuers.map((issuer) => [issuer.name, jwtProvider(issuer)])),
        rules: [
          {
            match: { pathSpecifier: { case: "prefix", value: "/" } },
            requirementType: {
              case: "requires",
              value: { requiresType: { case: "requiresAny", value: { requirements } } },
            },
          },
        ],
      }),
    },
  };
}

function jwtProvider(issuer: JwtIssuer): MessageInitShape<typeof JwtProviderSchema> {
  const { jwks } = issuer;
  return {
    issuer: issuer.issuer,
    audiences: [...issuer.audiences],
    requireExpiration: true,
    ...(issuer.rememberTokens > 0 ? { jwtCacheConfig: { jwtCacheSize: issuer.rememberTokens } } : {}),
    // The filter takes this header away from every request first: what came from elsewhere must not stand there.
    claimToHeaders: [{ headerName: headers.claim, claimName: issuer.principalClaim }],
    jwksSourceSpecifier:
      jwks.kind === "file"
        ? {
            case: "localJwks",
            value: { specifier: { case: "filename", value: jwks.file }, watchedDirectory: { path: folderOf(jwks.file) } },
          }
        : {
            case: "remoteJwks",
            value: {
              httpUri: {
                uri: jwks.uri.href,
                httpUpstreamType: { case: "cluster", value: jwksCluster(issuer.name) },
                timeout: duration(5_000),
              },
              cacheDuration: duration(jwks.cacheSeconds * 1_000),
              asyncFetch: { fastListener: true },
              retryPolicy: { numRetries: 3 },
            },
          },
  };
}

function folderOf(file: string): string {
  return file.slice(0, Math.max(1, file.lastIndexOf("/")));
}

function jwksCluster(name: string): string {
  return `warm-jwks-${name}`;
}

/** Where Envoy fetches the keys of issuers. */
export function buildAuthClusters(auth: AuthOptions): MessageInitShape<typeof ClusterSchema>[] {
  return auth.jwt.flatMap(({ name, jwks }) => {
    if (jwks.kind === "file") return [];
    const { uri: url, caFile } = jwks;
    return [buildOutsideCluster({ name: jwksCluster(name), url, caFile, connectTimeoutMs: 5_000, http2: false })];
  });
}
