// Owns what tenants are held to: quotas as the registry has them, what each tenant has in hand at this gateway, and what goes
// with that to Envoy (requests per second) and to the pods (warm bytes). Each decision is core's.
// Invariants: what was counted is given back once, whatever became of it; a load counts until no pod works on it any more,
// also when nobody waits for it any longer; nothing is kept of a tenant that has nothing in hand.
import { anonymous, parsePrincipal } from "#core/access.ts";
import type { Model, Revision } from "#core/model.ts";
import {
  buildQuotaRules,
  bytesLeftFor,
  checkParked,
  isUntouched,
  type LoadAllowance,
  maxQuotas,
  type OverQuota,
  type Quota,
  type QuotaName,
  type QuotaRules,
  takeLoad,
  trimPods,
} from "#core/quota.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { parseQuotaRecord, quotaPrefix } from "#platform/registry/quotarecords.ts";
import type { Registry } from "#platform/registry/registry.ts";
import type { RouteTable } from "#xds/main.ts";
import type { Failure } from "./failure.ts";
import { type CopyChange, copyKey, type Fleet } from "./fleet.ts";
import { follow } from "./following.ts";
import type { LoadAsk } from "./links.ts";
import { createTenantBytes } from "./tenants.ts";

/** To be given back, once. */
export interface Held {
  readonly kind: "held";
  readonly release: () => void;
}

export interface TenantUse {
  readonly tenant: string;
  readonly parkedRequests: number;
  readonly loadsUnderWay: number;
  /** Counted only where a quota says something of it. */
  readonly warmBytes?: number;
}

export interface Quotas {
  /** Whom a request counts against: who calls, where callers prove who they are; else whose the model is. */
  tenantOf(principal: string | undefined, model: Model): string;
  /** A request is about to wait. */
  park(tenant: string): Held | Failure;
  /** A request is about to start a load. */
  startLoad(tenant: string, copy: { readonly model: string; readonly revision: string }): Held | Failure;
  /** What a pod must know of whose a model is. */
  termsOf(podId: string, model: string): Pick<LoadAsk, "tenant" | "tenantBytes">;
  /** Pods that would refuse a copy, since its tenant has too much elsewhere and nothing there that could leave. */
  avoided(model: string, revision: Revision): ReadonlyMap<string, { readonly reason: string; readonly untilMs: number }>;
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** The pod is linked, or linked again. */
  onLinked(podId: string): void;
  onModel(name: string): void;
  /** A pod refused a load for its tenant's quota. */
  onRefused(): void;
  /** Tenants that have too much are told to let go: to be called now and then. */
  tick(): void;
  use(): readonly TenantUse[];
}

export interface QuotasParts {
  readonly registry: Registry;
  readonly table: Pick<RouteTable, "setQuotas">;
  readonly fleet: Pick<Fleet, "pods" | "holders">;
  readonly findModel: (name: string) => Model | undefined;
  readonly sendOwners: (podId: string, owners: ReadonlyMap<string, string>) => void;
  readonly sendTrim: (podId: string, tenant: string, bytes: number) => void;
  /** One gateway sees to each tenant. */
  readonly isHome: (tenant: string) => boolean;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly log: Log;
  /** Callers prove who they are. */
  readonly auth: boolean;
  readonly onOver: (quota: QuotaName) => void;
}

interface InHand {
  parked: number;
  loads: number;
  allowance: LoadAllowance | undefined;
}

const nowhere: ReadonlyMap<string, { readonly reason: string; readonly untilMs: number }> = new Map();

/** Resolves when the quotas are known; follows them until the signal is aborted. */
export async function openQuotas(parts: QuotasParts, signal: AbortSignal): Promise<Quotas & AsyncDisposable> {
  const { registry, table, fleet, findModel, clock, log } = parts;
  const quotas = new Map<string, Quota>();
  let rules: QuotaRules = buildQuotaRules([]);
  const tenants = new Map<string, InHand>();
  const bytes = createTenantBytes(fleet, findModel);
  /** Loads that nobody waits for any longer, and that a pod still works on. */
  const left = new Map<string, Set<() => void>>();

  function inHand(tenant: string): InHand {
    const known = tenants.get(tenant) ?? { parked: 0, loads: 0, allowance: undefined };
    tenants.set(tenant, known);
    return known;
  }

  function forget(tenant: string, known: InHand): void {
    const { parked, loads, allowance } = known;
    const whole = allowance === undefined || isUntouched(rules.of(tenant), allowance, clock.monotonicMs());
    if (parked === 0 && loads === 0 && whole && tenants.get(tenant) === known) tenants.delete(tenant);
  }

  function over(tenant: string, known: InHand, { quota, reason, retryAfterMs }: OverQuota): Failure {
    forget(tenant, known);
    parts.onOver(quota);
    return { kind: "failed", code: "quota-exceeded", reason, retryAfterMs };
  }

  function held(release: () => void): Held {
    let done = false;
    return {
      kind: "held",
      release() {
        if (done) return;
        done = true;
        release();
      },
    };
  }

  function isUnderWay(model: string, key: string): boolean {
    for (const { copy } of fleet.holders(model)) {
      if (copyKey(copy) === key && (copy.state === "loading" || copy.state === "queued")) return true;
    }
    return false;
  }

  function tenantOfModel(model: string): string {
    return findModel(model)?.tenant ?? anonymous;
  }

  /** What is in hand stays in hand, whatever the quotas say now. */
  function changed(): void {
    rules = buildQuotaRules(quotas.values());
    table.setQuotas(rules);
    const counted = bytes.counting;
    bytes.count(rules.limits("warmBytes"));
    if (!counted && bytes.counting) for (const { info } of fleet.pods()) tell(info.podId);
    for (const [tenant, known] of Array.from(tenants)) forget(tenant, known);
    trim();
  }

  function trim(): void {
    if (!bytes.counting) return;
    for (const tenant of bytes.tenants()) {
      const limits = rules.of(tenant);
      const total = bytes.total(tenant);
      if (limits.warmBytes === undefined || total <= limits.warmBytes || !parts.isHome(tenant)) continue;
      const there = Array.from(fleet.pods(), ({ info: { podId } }) => [podId, bytes.on(podId, tenant)] as const);
      for (const [podId, kept] of trimPods(limits, total, there)) parts.sendTrim(podId, tenant, kept);
    }
  }

  function tell(podId: string): void {
    const owners = bytes.ownersOn(podId);
    if (owners.size > 0) parts.sendOwners(podId, owners);
  }

  const following = follow(
    registry,
    [
      {
        prefix: quotaPrefix,
        held: quotas,
        put(name, value) {
          const parsed = parseQuotaRecord(name, value);
          if (parsed.kind === "refused") return parsed.reason;
          if (quotas.size >= maxQuotas && !quotas.has(name)) return `there are ${maxQuotas} quotas already`;
          quotas.set(name, parsed.value);
          return undefined;
        },
        changed,
      },
    ],
    log,
    signal,
  );
  await following.synced;

  return {
    tenantOf(principal, { tenant }) {
      return parts.auth ? (parsePrincipal(principal ?? anonymous) ?? anonymous) : (tenant ?? anonymous);
    },
    park(tenant) {
      const known = inHand(tenant);
      const refusal = checkParked(rules.of(tenant), known.parked);
      if (refusal !== undefined) return over(tenant, known, refusal);
      known.parked += 1;
      return held(() => {
        known.parked -= 1;
        forget(tenant, known);
      });
    },
    startLoad(tenant, copy) {
      const known = inHand(tenant);
      const taken = takeLoad(rules.of(tenant), known.loads, known.allowance, clock.monotonicMs());
      if (taken.kind === "over") return over(tenant, known, taken);
      known.allowance = taken.allowance;
      known.loads += 1;
      const key = copyKey(copy);
      const end = (): void => {
        known.loads -= 1;
        forget(tenant, known);
      };
      return held(() => {
        if (isUnderWay(copy.model, key)) left.set(key, (left.get(key) ?? new Set()).add(end));
        else end();
      });
    },
    termsOf(podId, model) {
      if (!bytes.counting) return {};
      const tenant = tenantOfModel(model);
      const elsewhereBytes = bytes.total(tenant) - bytes.on(podId, tenant);
      return { tenant, tenantBytes: bytesLeftFor(rules.of(tenant), elsewhereBytes) };
    },
    avoided(model, { sizeHintBytes }) {
      if (!bytes.counting) return nowhere;
      const tenant = tenantOfModel(model);
      const { warmBytes } = rules.of(tenant);
      const total = bytes.total(tenant);
      const neededBytes = sizeHintBytes ?? total / Math.max(1, bytes.copies(tenant));
      if (warmBytes === undefined || total + neededBytes <= warmBytes) return nowhere;
      const reason = "its tenant has nothing there that could leave for it";
      const avoided = new Map<string, { readonly reason: string; readonly untilMs: number }>();
      for (const { info } of fleet.pods()) {
        const there = bytes.on(info.podId, tenant);
        if (there === 0 || warmBytes - (total - there) < neededBytes) {
          avoided.set(info.podId, { reason, untilMs: Number.POSITIVE_INFINITY });
        }
      }
      return avoided;
    },
    onCopies(podId, changes) {
      bytes.onCopies(podId, changes);
      if (left.size === 0) return;
      for (const change of changes) {
        const key = copyKey(change);
        const ends = left.get(key);
        if (ends === undefined || isUnderWay(change.model, key)) continue;
        left.delete(key);
        for (const end of ends) end();
      }
    },
    onLinked: tell,
    onModel(name) {
      for (const podId of bytes.onModel(name)) parts.sendOwners(podId, new Map([[name, tenantOfModel(name)]]));
    },
    tick: trim,
    onRefused: () => parts.onOver("warm-bytes"),
    use() {
      const names = new Set([...tenants.keys(), ...bytes.tenants()]);
      return Array.from(names, (tenant) => ({
        tenant,
        parkedRequests: tenants.get(tenant)?.parked ?? 0,
        loadsUnderWay: tenants.get(tenant)?.loads ?? 0,
        ...(bytes.counting ? { warmBytes: bytes.total(tenant) } : {}),
      }));
    },
    [Symbol.asyncDispose]: () => following[Symbol.asyncDispose](),
  };
}
