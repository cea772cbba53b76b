// Owns what the management API shows of the gateway, and the changes it makes: values only, no HTTP.
import type { Model } from "#core/model.ts";
import type { Histogram } from "#core/samples.ts";
import { sleep } from "#platform/clock.ts";
import type { EnvoyStats } from "../envoystats.ts";
import type { ProcessorCounts } from "../extproc/service.ts";
import type { Fleet } from "../fleet.ts";
import type { Ensured, Loads } from "../loads.ts";
import type { Routes } from "../routes.ts";
import { silentSpan } from "../spans.ts";
import type { Usage } from "../usage.ts";

export interface GatewayStats {
  /** Registered. */
  readonly models: number;
  /** With a route in Envoy's table. */
  readonly warm: number;
  readonly loading: number;
  readonly queued: number;
  /** Requests held now. */
  readonly waiting: number;
  /** Inference requests that Envoy answered without asking; undefined while Envoy does not answer. */
  readonly hits: number | undefined;
  readonly misses: number;
  readonly reroutes: number;
  readonly refused: number;
  readonly failed: number;
  /** Requests that JavaScript handled. */
  readonly javascriptRequests: number;
  readonly evictions: number;
  readonly loads: number;
  readonly loadFailures: number;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly hitP50Ms: number | undefined;
  readonly hitP99Ms: number | undefined;
  readonly missP50Ms: number | undefined;
  readonly missP99Ms: number | undefined;
  readonly extProcErrors: number | undefined;
  readonly sets: number;
}

export interface GatewayState {
  isReady(): boolean;
  stats(): Promise<GatewayStats>;
  pods(): readonly unknown[];
  list(
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly models: readonly string[]; readonly next: string | undefined }>;
  describe(name: string): unknown;
  register(model: Model): Promise<{ readonly kind: "created" | "same" | "exists" }>;
  unregister(name: string): Promise<void>;
  load(name: string): Promise<Ensured>;
  registry(): { readonly models: number; readonly missing: number };
  restoreRegistry(): Promise<number>;
}

/** What the state needs of the registry. */
export interface ModelBook {
  readonly count: number;
  get(name: string): Model | undefined;
  names(after: string | undefined, limit: number): Promise<{ readonly names: readonly string[]; readonly more: boolean }>;
  register(model: Model): Promise<{ readonly kind: "created" | "same" | "exists" }>;
  unregister(name: string): Promise<void>;
  /** How many known models the registry came back without. */
  missing(): number;
  /** Writes them again; resolves with how many were written. */
  restore(): Promise<number>;
}

export interface StateParts {
  readonly book: ModelBook;
  readonly fleet: Fleet;
  readonly routes: Routes;
  readonly loads: Loads;
  readonly usage: Usage;
  readonly counts: ProcessorCounts;
  readonly waits: Histogram;
  readonly envoy: EnvoyStats | undefined;
  readonly table: { readonly modelCount: number; readonly setCount: number };
  readonly isReady: () => boolean;
  readonly monotonicMs: () => number;
  readonly maxParkMs: number;
}

/** An Envoy that does not answer holds up a call for no longer. */
const withdrawPatienceMs = 2_000;
const noticeMs = 5;

export function createGatewayState(parts: StateParts): GatewayState {
  const { book, fleet, routes, loads, usage, counts, waits, envoy, table } = parts;
  return {
    isReady: parts.isReady,
    async stats() {
      const envoyCounts = await envoy?.read();
      const pods = [...fleet.pods()];
      const sum = (pick: (pod: (typeof pods)[number]) => number): number => pods.reduce((total, pod) => total + pick(pod), 0);
      return {
        models: book.count,
        warm: table.modelCount,
        loading: fleet.counts.loading,
        queued: fleet.counts.queued,
        waiting: loads.waiting,
        hits: envoyCounts === undefined ? undefined : Math.max(0, envoyCounts.requests - envoyCounts.asked),
        misses: counts.misses,
        reroutes: counts.reroutes,
        refused: counts.refused,
        failed: counts.failed,
        javascriptRequests: counts.requests,
        evictions: sum((pod) => pod.gauges.evictions),
        loads: sum((pod) => pod.gauges.loads),
        loadFailures: sum((pod) => pod.gauges.loadFailures),
        capacityBytes: sum((pod) => pod.info.capacityBytes),
        usedBytes: sum((pod) => pod.gauges.usedBytes),
        hitP50Ms: usage.latency.quantile(0.5),
        hitP99Ms: usage.latency.quantile(0.99),
        missP50Ms: waits.quantile(0.5),
        missP99Ms: waits.quantile(0.99),
        extProcErrors: envoyCounts?.extProcErrors,
        sets: table.setCount,
      };
    },
    pods: () =>
      [...fleet.pods()].map(({ info, gauges, reachable, copies }) => ({
        ...info,
        ...gauges,
        reachable,
        copies: copies.size,
      })),
    async list(after, limit) {
      const { names, more } = await book.names(after, limit);
      return { models: names, next: more ? names.at(-1) : undefined };
    },
    describe(name) {
      const model = book.get(name);
      if (model === undefined) return undefined;
      const copies = [...fleet.holders(name)].map(({ podId, copy: { revision, slot, state, sizeBytes, failure } }) => ({
        pod: podId,
        revision,
        slot,
        state,
        sizeBytes,
        failure,
      }));
      return { ...model, copies, routed: routes.isRouted(name), acknowledged: routes.isRouted(name) && routes.isSettled(name) };
    },
    registry: () => ({ models: book.count, missing: book.missing() }),
    restoreRegistry: () => book.restore(),
    register: (model) => book.register(model),
    async unregister(name) {
      await book.unregister(name);
      // Whoever registers the name anew must not get an answer of the old copies, to which Envoy still has the route.
      const patience = AbortSignal.timeout(withdrawPatienceMs);
      while (book.get(name) !== undefined && !patience.aborted) await sleep(noticeMs);
      await routes.whenSettled(name, patience).catch(() => undefined);
    },
    async load(name) {
      const model = book.get(name);
      if (model === undefined) return { kind: "failed", code: "model-not-found", reason: `no model '${name}' is registered` };
      return loads.ensure(model, {
        deadlineMs: parts.monotonicMs() + parts.maxParkMs,
        signal: AbortSignal.timeout(parts.maxParkMs),
        span: silentSpan,
      });
    },
  };
}
