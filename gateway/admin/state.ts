// Owns what the management API shows of the gateway itself and of its pods: values only, no HTTP.
import type { Histogram } from "#core/samples.ts";
import type { ModelBook } from "../book.ts";
import type { EnvoyStats } from "../envoystats.ts";
import type { ProcessorCounts } from "../extproc/service.ts";
import type { Fleet, PodGauges, PodInfo } from "../fleet.ts";
import type { Home } from "../home.ts";
import type { Loads } from "../loads.ts";
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
  /** Requests that Envoy routed without asking, since this gateway began as all counts are; undefined while Envoy does not answer. */
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

export type PodStatus = PodInfo & PodGauges & { readonly reachable: boolean; readonly copies: number };

export interface GatewayState {
  isReady(): boolean;
  stats(): Promise<GatewayStats>;
  pods(): readonly PodStatus[];
  /** Asks the pod to hand its models over and take no more; false when there is no such pod, or it cannot be reached. */
  startDrain(podId: string): "started" | "unknown" | "unreachable";
  /** This one first, then the others that are there. */
  gateways(): readonly { readonly gatewayId: string; readonly here: boolean; readonly peerAddress?: string }[];
  registry(): { readonly models: number; readonly missing: number };
  restoreRegistry(): Promise<number>;
}

export interface StateParts {
  readonly book: Pick<ModelBook, "count" | "missing" | "restore">;
  readonly fleet: Fleet;
  readonly loads: Loads;
  readonly usage: Usage;
  readonly counts: ProcessorCounts;
  readonly waits: Histogram;
  readonly envoy: EnvoyStats | undefined;
  readonly table: { readonly modelCount: number; readonly setCount: number };
  readonly isReady: () => boolean;
  readonly gatewayId: string;
  readonly home: Pick<Home, "members">;
  readonly startDrain: (podId: string) => boolean;
}

const names = new Intl.Collator("en", { numeric: true });
/** Whichever was linked first. */
const byName = (one: { readonly info: PodInfo }, other: { readonly info: PodInfo }): number =>
  names.compare(one.info.podId, other.info.podId);

export function createGatewayState(parts: StateParts): GatewayState {
  const { book, fleet, loads, usage, counts, waits, envoy, table } = parts;
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
        hits: envoyCounts?.hits,
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
      [...fleet.pods()].sort(byName).map(({ info, gauges, reachable, copies }) => ({
        ...info,
        ...gauges,
        reachable,
        copies: copies.size,
      })),
    startDrain(podId) {
      if (fleet.pod(podId) === undefined) return "unknown";
      return parts.startDrain(podId) ? "started" : "unreachable";
    },
    gateways: () => [
      { gatewayId: parts.gatewayId, here: true },
      ...Array.from(parts.home.members(), ({ gatewayId, peerAddress }) => ({ gatewayId, here: false, peerAddress })),
    ],
    registry: () => ({ models: book.count, missing: book.missing() }),
    restoreRegistry: () => book.restore(),
  };
}
