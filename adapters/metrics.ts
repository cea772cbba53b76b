// Owns what an adapter tells Prometheus: the definitions, and how each value is come by.
// Invariant: a scrape reads counters of the holding, never its copies.
import { type LoadClass, loadClasses } from "#core/loadqueue.ts";
import {
  ageBuckets,
  bytesBuckets,
  counter,
  createMetrics,
  gauge,
  histogram,
  type Metrics,
  type MetricsOptions,
  secondsBuckets,
} from "#platform/metrics.ts";
import type { HoldingGauges } from "./agent/gauges.ts";
import type { AgentWatch } from "./agent/watch.ts";

const failureKinds = ["model", "pod", "storage", "capacity"] as const;
const refusalWhys = ["queue-full", "no-room", "over-quota", "stopping", "deadline"] as const;

export const adapterDefinitions = {
  capacityBytes: gauge("warmpath_pod_capacity_bytes", "Memory for models of this pod.", {
    alias: { name: "modelmesh_instance_capacity_bytes" },
  }),
  usedBytes: gauge("warmpath_pod_used_bytes", "Memory that the copies of this pod take.", {
    alias: { name: "modelmesh_instance_used_bytes" },
  }),
  reservedBytes: gauge("warmpath_pod_reserved_bytes", "Memory promised to loads that are under way."),
  ready: gauge("warmpath_pod_ready_copies", "Copies that this pod holds ready.", {
    alias: { name: "modelmesh_instance_models_total" },
  }),
  loading: gauge("warmpath_pod_loading_copies", "Copies that are being pulled or loaded now."),
  queued: gauge("warmpath_pod_queued_loads", "Loads that wait for their turn or for room, by class.", {
    labels: { class: loadClasses },
  }),
  oldestIdle: gauge("warmpath_pod_oldest_idle_seconds", "How long ago the least recently used copy was used; 0 without copies.", {
    alias: { name: "modelmesh_instance_lru_age_seconds" },
  }),
  serverUp: gauge("warmpath_pod_server_up", "1 while the model server answers, else 0."),
  gateways: gauge("warmpath_pod_linked_gateways", "Gateways that have a Link to this pod."),
  loads: counter("warmpath_loads_total", "Loads that ended well."),
  loadFailures: counter("warmpath_load_failures_total", "Loads that failed, by what was at fault.", {
    labels: { kind: failureKinds },
    alias: { name: "modelmesh_loadmodel_failure" },
  }),
  loadRefusals: counter("warmpath_load_refusals_total", "Loads that were asked for and given up before they started, by why.", {
    labels: { why: refusalWhys },
  }),
  evictions: counter("warmpath_evictions_total", "Copies that left to make room."),
  unloadFailures: counter("warmpath_unload_failures_total", "Unloads that failed and are tried again.", {
    alias: { name: "modelmesh_unloadmodel_attempt_failure" },
  }),
  queueSeconds: histogram(
    "warmpath_load_queue_seconds",
    "From the first ask for a load to its start, by class.",
    secondsBuckets,
    {
      labels: { class: loadClasses },
      alias: { name: "modelmesh_loading_queue_delay_milliseconds", scale: 1_000 },
    },
  ),
  loadSeconds: histogram("warmpath_load_seconds", "Pull and load together, of loads that ended well.", secondsBuckets, {
    alias: { name: "modelmesh_loadmodel_milliseconds", scale: 1_000 },
  }),
  pullSeconds: histogram("warmpath_pull_seconds", "Fetching the artefact of a load.", secondsBuckets),
  serverLoadSeconds: histogram("warmpath_server_load_seconds", "The model server's own part of a load.", secondsBuckets),
  withdrawSeconds: histogram(
    "warmpath_withdraw_seconds",
    "From the decision that a copy leaves until no gateway sends requests there any more, or was waited for long enough.",
    secondsBuckets,
  ),
  unloadSeconds: histogram(
    "warmpath_unload_seconds",
    "The model server's unload of a copy, requests in flight included.",
    secondsBuckets,
    {
      alias: { name: "modelmesh_unloadmodel_milliseconds", scale: 1_000 },
    },
  ),
  evictionAge: histogram("warmpath_eviction_age_seconds", "How long ago a copy that leaves was last used.", ageBuckets, {
    alias: { name: "modelmesh_age_at_eviction_milliseconds", scale: 1_000 },
  }),
  copyBytes: histogram("warmpath_copy_bytes", "What loaded copies take, as measured after their load.", bytesBuckets, {
    alias: { name: "modelmesh_loaded_model_size_bytes" },
  }),
} as const;

export type AdapterMetrics = Metrics<typeof adapterDefinitions>;

export function createAdapterMetrics(options: MetricsOptions): AdapterMetrics {
  return createMetrics(adapterDefinitions, options);
}

/** Has what the holding keeps read at each scrape. */
export function collectAdapter(
  { of, onCollect }: AdapterMetrics,
  read: () => { readonly gauges: HoldingGauges; readonly serverUp: boolean; readonly gateways: number },
): void {
  onCollect(() => {
    const { gauges, serverUp, gateways } = read();
    of.capacityBytes.set({}, gauges.capacityBytes);
    of.usedBytes.set({}, gauges.usedBytes);
    of.reservedBytes.set({}, gauges.reservedBytes);
    of.ready.set({}, gauges.ready);
    of.loading.set({}, gauges.loading);
    for (const each of loadClasses) of.queued.set({ class: each }, gauges.queuedByClass[each]);
    of.oldestIdle.set({}, gauges.oldestIdleMs / 1_000);
    of.serverUp.set({}, serverUp ? 1 : 0);
    of.gateways.set({}, gateways);
    of.evictions.set({}, gauges.evictions);
  });
}

/** Times what an agent does. */
export function createMetricsWatch({ of }: AdapterMetrics, nowMs: () => number): AgentWatch {
  return {
    loadStarts({ loadClass, queuedMs, traceparent }) {
      const startMs = nowMs();
      of.queueSeconds.record({ class: loadClass satisfies LoadClass }, queuedMs / 1_000, traceIdOf(traceparent));
      return {
        step(name) {
          const stepMs = nowMs();
          return (failure) => {
            if (failure !== undefined) return;
            const seconds = (nowMs() - stepMs) / 1_000;
            if (name === "pull") of.pullSeconds.record({}, seconds, traceIdOf(traceparent));
            if (name === "server") of.serverLoadSeconds.record({}, seconds, traceIdOf(traceparent));
          };
        },
        end(end) {
          if (end.kind === "failed") return of.loadFailures.add({ kind: end.failure });
          of.loads.add({});
          of.loadSeconds.record({}, (nowMs() - startMs) / 1_000, traceIdOf(traceparent));
          return of.copyBytes.record({}, end.sizeBytes);
        },
      };
    },
    probeFailed: (kind) => of.loadFailures.add({ kind }),
    refused: (why) => of.loadRefusals.add({ why }),
    leaves({ idleMs }) {
      const leftMs = nowMs();
      let withdrawnMs: number | undefined;
      let triedMs = leftMs;
      of.evictionAge.record({}, Math.max(0, idleMs) / 1_000);
      return {
        withdrawn() {
          triedMs = nowMs();
          if (withdrawnMs === undefined) of.withdrawSeconds.record({}, (triedMs - leftMs) / 1_000);
          withdrawnMs ??= triedMs;
        },
        unloaded(failure) {
          if (failure === undefined) of.unloadSeconds.record({}, (nowMs() - triedMs) / 1_000);
          else of.unloadFailures.add({});
        },
      };
    },
  };
}

/** Only of traces that are kept: an exemplar that leads nowhere is worse than none. */
function traceIdOf(traceparent: string | undefined): string | undefined {
  return traceparent?.endsWith("-01") === true ? traceparent.split("-")[1] : undefined;
}
