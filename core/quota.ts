// Owns how much of what is shared one tenant may take: quotas, which of them counts for whom, and each decision with its
// reason. Pure.
// A tenant is who has proved to be one (a principal), and whose a model is (Model.tenant): one name, both ways. Requests,
// waits and loads count against who calls; warm bytes against whose model it is.
// Invariants: a tenant that a quota names is held to those that name it, and to the least of each limit where several do;
// others are held to what is given for everybody of their kind; what no quota limits is not limited.
import { anonymous, authenticatedWord, isPrincipal } from "./access.ts";
import { isRecord, isWhole, own, parseWord, type Refused, refused } from "./fields.ts";

/** Everybody who has proved nothing together, and models that are nobody's. */
export const anonymousWord = "anonymous";

export interface QuotaLimits {
  /** Of each port of each gateway. */
  readonly requestsPerSecond?: number;
  /** How many may come at once; as many as in a second when absent. */
  readonly burst?: number;
  /** Requests that wait for models, of each gateway. */
  readonly parkedRequests?: number;
  /** Loads that its requests have started and that are not over, of each gateway. */
  readonly loadsUnderWay?: number;
  /** Of each gateway; in the long run, as many at once. */
  readonly loadsPerMinute?: number;
  /** What copies of its models may take, all pods together. */
  readonly warmBytes?: number;
}

export interface Quota {
  readonly name: string;
  /** Tenants, each with these limits for itself; or one of the words `authenticated` and `anonymous`. */
  readonly tenants: readonly string[];
  readonly limits: QuotaLimits;
}

export const maxQuotas = 1_000;
const maxTenants = 1_000;

const ranges: Readonly<Record<keyof QuotaLimits, readonly [least: number, most: number]>> = {
  requestsPerSecond: [1, 10_000_000],
  burst: [1, 10_000_000],
  parkedRequests: [0, 1_000_000],
  loadsUnderWay: [0, 100_000],
  loadsPerMinute: [0, 1_000_000],
  warmBytes: [0, 2 ** 50],
};

export const limitNames: readonly (keyof QuotaLimits)[] = [
  "requestsPerSecond",
  "burst",
  "parkedRequests",
  "loadsUnderWay",
  "loadsPerMinute",
  "warmBytes",
];

export function parseQuota(name: unknown, value: unknown): { readonly kind: "ok"; readonly quota: Quota } | Refused {
  const named = parseWord("a quota's name", name, 253);
  if (named.kind === "refused") return named;
  if (!isRecord(value)) return refused("a quota must be an object");
  const tenants = own(value, "tenants");
  if (!Array.isArray(tenants) || tenants.length === 0 || tenants.length > maxTenants)
    return refused(`tenants must be a list of 1 to ${maxTenants}`);
  const told: string[] = [];
  for (const tenant of tenants) {
    if (typeof tenant !== "string" || !isPrincipal(tenant)) return refused(`tenants: entry ${told.length} can be no tenant`);
    told.push(tenant);
  }
  const limits: { -readonly [K in keyof QuotaLimits]: QuotaLimits[K] } = {};
  for (const limit of limitNames) {
    const given = own(value, limit);
    if (given === undefined) continue;
    const [least, most] = ranges[limit];
    if (!isWhole(given, least, most)) return refused(`${limit} must be a whole number from ${least} to ${most}, or left out`);
    limits[limit] = given;
  }
  if (limits.burst !== undefined && limits.requestsPerSecond === undefined)
    return refused("burst says nothing without requestsPerSecond");
  return { kind: "ok", quota: { name: named.text, tenants: told, limits } };
}

/** Which limits count for whom. */
export interface QuotaRules {
  /** `tenant`: a principal, or `anonymous` of core/access. */
  of(tenant: string): QuotaLimits;
  /** Those whose limits stand by themselves, as principals: `anonymous` is among them when it has some. */
  named(): Iterable<readonly [tenant: string, limits: QuotaLimits]>;
  /** Of every tenant that is not among the named ones, each for itself. */
  readonly others: QuotaLimits;
  /** Whether anybody has this limit. */
  limits(name: keyof QuotaLimits): boolean;
}

const none: QuotaLimits = Object.freeze({});

export function buildQuotaRules(quotas: Iterable<Quota>): QuotaRules {
  const named = new Map<string, QuotaLimits>();
  let others = none;
  const used = new Set<keyof QuotaLimits>();
  for (const { tenants, limits } of quotas) {
    for (const limit of limitNames) if (limits[limit] !== undefined) used.add(limit);
    for (const word of new Set(tenants)) {
      if (word === authenticatedWord) others = leastOf(others, limits);
      else {
        const tenant = word === anonymousWord ? anonymous : word;
        named.set(tenant, leastOf(named.get(tenant) ?? none, limits));
      }
    }
  }
  return {
    of: (tenant) => named.get(tenant) ?? (tenant === anonymous ? none : others),
    named: () => named,
    others,
    limits: (name) => used.has(name),
  };
}

function leastOf(one: QuotaLimits, other: QuotaLimits): QuotaLimits {
  const least: { -readonly [K in keyof QuotaLimits]: QuotaLimits[K] } = { ...one };
  for (const limit of limitNames) {
    const given = other[limit];
    if (given !== undefined) least[limit] = Math.min(given, least[limit] ?? given);
  }
  return least;
}

/** Which limit a tenant has reached. */
export type QuotaName = "requests" | "parked" | "loads" | "load-rate" | "warm-bytes";

export interface OverQuota {
  readonly kind: "over";
  readonly quota: QuotaName;
  /** For people; does not name the tenant, who knows. */
  readonly reason: string;
  readonly retryAfterMs: number;
}

const soonMs = 1_000;

/** May one more request wait, where so many of the tenant do? */
export function checkParked({ parkedRequests }: QuotaLimits, parked: number): OverQuota | undefined {
  if (parkedRequests === undefined || parked < parkedRequests) return undefined;
  return over("parked", `${parked} requests of this tenant wait for models already, as many as its quota allows`, soonMs);
}

/** What is kept to bound loads by the minute: what is left of the allowance, and since when. */
export interface LoadAllowance {
  readonly left: number;
  readonly atMs: number;
}

const minuteMs = 60_000;

/** May one more load start, where so many of the tenant are under way? With the allowance as it is after it. */
export function takeLoad(
  { loadsUnderWay, loadsPerMinute }: QuotaLimits,
  underWay: number,
  allowance: LoadAllowance | undefined,
  nowMs: number,
): OverQuota | { readonly kind: "ok"; readonly allowance: LoadAllowance | undefined } {
  if (loadsUnderWay !== undefined && underWay >= loadsUnderWay)
    return over("loads", `${underWay} loads of this tenant are under way already, as many as its quota allows`, soonMs);
  if (loadsPerMinute === undefined) return { kind: "ok", allowance: undefined };
  const left = refill(loadsPerMinute, allowance, nowMs);
  if (left >= 1) return { kind: "ok", allowance: { left: left - 1, atMs: nowMs } };
  const waitMs = loadsPerMinute === 0 ? minuteMs : ((1 - left) * minuteMs) / loadsPerMinute;
  return over("load-rate", `this tenant's quota of ${loadsPerMinute} loads in a minute is used up`, waitMs);
}

/** Whether the allowance is whole again, so that it need not be kept. */
export function isUntouched({ loadsPerMinute }: QuotaLimits, allowance: LoadAllowance, nowMs: number): boolean {
  return loadsPerMinute === undefined || refill(loadsPerMinute, allowance, nowMs) >= loadsPerMinute;
}

function refill(perMinute: number, allowance: LoadAllowance | undefined, nowMs: number): number {
  if (allowance === undefined) return perMinute;
  return Math.min(perMinute, allowance.left + (Math.max(0, nowMs - allowance.atMs) * perMinute) / minuteMs);
}

function over(quota: QuotaName, reason: string, retryAfterMs: number): OverQuota {
  return { kind: "over", quota, reason, retryAfterMs: Math.max(1, Math.ceil(retryAfterMs)) };
}

/**
 * What a tenant that has more than it may is to be left with on pods: those with most of it give first, and each gives all
 * that is needed, so that few are concerned. Pods that need not change are left out.
 */
export function trimPods(
  { warmBytes }: QuotaLimits,
  totalBytes: number,
  pods: Iterable<readonly [podId: string, bytes: number]>,
): ReadonlyMap<string, number> {
  const kept = new Map<string, number>();
  let overBytes = warmBytes === undefined ? 0 : totalBytes - warmBytes;
  if (overBytes <= 0) return kept;
  for (const [podId, bytes] of Array.from(pods).toSorted(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))) {
    if (overBytes <= 0 || bytes <= 0) break;
    kept.set(podId, Math.max(0, bytes - overBytes));
    overBytes -= bytes;
  }
  return kept;
}

/** How many bytes the tenant may have on a pod, what it has there included, when it has so many elsewhere. */
export function bytesLeftFor({ warmBytes }: QuotaLimits, elsewhereBytes: number): number | undefined {
  return warmBytes === undefined ? undefined : Math.max(0, warmBytes - elsewhereBytes);
}
