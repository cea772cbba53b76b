// Owns what is measured of the process itself: processor time, memory, file descriptors, the event loop, the collector.
// Names are those that every Prometheus client uses. Only a choice of what prom-client has: the rest breaks Prometheus'
// naming rules, or says nothing that helps.
import { collectDefaultMetrics, Registry } from "prom-client";
import type { Family, Sample } from "./exposition.ts";

const chosen: ReadonlyMap<string, Family["kind"]> = new Map([
  ["process_cpu_seconds_total", "counter"],
  ["process_resident_memory_bytes", "gauge"],
  ["process_start_time_seconds", "gauge"],
  ["process_open_fds", "gauge"],
  ["process_max_fds", "gauge"],
  ["nodejs_eventloop_lag_p50_seconds", "gauge"],
  ["nodejs_eventloop_lag_p99_seconds", "gauge"],
  ["nodejs_heap_size_used_bytes", "gauge"],
  ["nodejs_external_memory_bytes", "gauge"],
  ["nodejs_gc_duration_seconds", "histogram"],
]);

export const processMetricNames: readonly string[] = [...chosen.keys()];

/** To be called once in a process. */
export function createProcessMetrics(): () => Promise<readonly Family[]> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 50 });
  return async () => {
    const families = await registry.getMetricsAsJSON();
    return families.flatMap(({ name, help, values }) => {
      const kind = chosen.get(name);
      return kind === undefined ? [] : [{ kind, name, help, samples: values.map((value) => sampleOf(name, value)) }];
    });
  };
}

function sampleOf(
  family: string,
  from: { readonly value: number; readonly labels: Partial<Record<string, string | number>>; readonly metricName?: string },
): Sample {
  const labels = Object.entries(from.labels).flatMap(([label, value]) => {
    if (value === undefined) return [];
    return [[label, label === "le" && value === "+Inf" ? Number.POSITIVE_INFINITY : value] as const];
  });
  return { name: from.metricName ?? family, labels: Object.fromEntries(labels), value: from.value };
}
