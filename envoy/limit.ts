// Owns how Envoy holds tenants to their requests per second: a filter of its own, behind those that find out who calls, with
// a bucket of tokens for each tenant. Its content comes over xDS, as the table of API keys does. No route names a tenant and
// no script runs: a request costs a look-up by its principal, and nothing where no quota says anything of requests and the
// caller was known before any filter (a certificate, nobody).
// Invariants: what no quota limits passes, whatever limits others; the same rules give the same bytes, so that buckets are
// filled anew only when quotas change.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { anonymous, fromCertificate } from "#core/access.ts";
import type { QuotaLimits, QuotaRules } from "#core/quota.ts";
import { duration, packAny } from "#platform/any.ts";
import { type TypedExtensionConfig, TypedExtensionConfigSchema } from "#proto/gen/envoy/config/core/v3/extension_pb.ts";
import type { LocalRateLimitDescriptorSchema } from "#proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.ts";
import { LocalRateLimitSchema } from "#proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts";
import type { HttpFilterSchema } from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { FractionalPercent_DenominatorType } from "#proto/gen/envoy/type/v3/percent_pb.ts";
import { limitedStatus } from "./localreplies.ts";
import { filters, headers } from "./names.ts";
import { overAds } from "./ways.ts";

type Descriptor = MessageInitShape<typeof LocalRateLimitDescriptorSchema>;

/** Its counters' names begin with it. */
export const limitStats = "warm_limit";
const key = "tenant";
/** Of tenants that no quota names, this many have a bucket at a time. */
const maxOthers = 10_000;
const unlimited = 1_000_000_000;

export const limitFilter: MessageInitShape<typeof HttpFilterSchema> = {
  name: filters.limit,
  configType: {
    case: "configDiscovery",
    value: {
      configSource: overAds,
      typeUrls: ["type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"],
    },
  },
};

/** The filter's content; without rules about requests it lets everything pass. */
export function buildLimit(rules: QuotaRules | undefined): TypedExtensionConfig {
  const descriptors = rules?.limits("requestsPerSecond") === true ? buildDescriptors(rules) : [];
  const all = { defaultValue: { numerator: 100, denominator: FractionalPercent_DenominatorType.HUNDRED } };
  return create(TypedExtensionConfigSchema, {
    name: filters.limit,
    typedConfig: packAny(LocalRateLimitSchema, {
      statPrefix: limitStats,
      status: { code: limitedStatus },
      rateLimitedAsResourceExhausted: true,
      ...(descriptors.length === 0
        ? {}
        : {
            filterEnabled: all,
            filterEnforced: all,
            descriptors,
            maxDynamicDescriptors: maxOthers,
            alwaysConsumeDefaultTokenBucket: false,
            rateLimits: [
              {
                actions: [
                  {
                    actionSpecifier: {
                      case: "requestHeaders",
                      value: { headerName: headers.principal, descriptorKey: key },
                    },
                  },
                ],
              },
            ],
          }),
    }),
  });
}

/** Nobody's bucket is everybody else's: a tenant that is named has one of its own, though it be without limit. */
function buildDescriptors({ named, others }: QuotaRules): Descriptor[] {
  const known = new Map<string, QuotaLimits>(named());
  if (others.requestsPerSecond !== undefined && !known.has(anonymous)) known.set(anonymous, {});
  const descriptors = Array.from(known)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([tenant, limits]) => {
      const bucket = buildBucket(limits);
      // Who has proved it by a certificate is told apart by that.
      const values = tenant === anonymous ? [tenant] : [tenant, `${fromCertificate}${tenant}`];
      return values.map((value): Descriptor => ({ entries: [{ key, value }], tokenBucket: bucket }));
    });
  if (others.requestsPerSecond === undefined) return descriptors;
  // Without a value: a bucket for each that comes.
  return [...descriptors, { entries: [{ key, value: "" }], tokenBucket: buildBucket(others) }];
}

function buildBucket({ requestsPerSecond = unlimited, burst }: QuotaLimits): Descriptor["tokenBucket"] {
  return {
    maxTokens: burst ?? requestsPerSecond,
    tokensPerFill: requestsPerSecond,
    fillInterval: duration(1_000),
  };
}
