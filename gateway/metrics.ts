// Owns what a gateway tells Prometheus: the definitions, and how each value is come by.
// Invariants: a scrape reads counters, never models: its cost grows with the pods at most. Hits are counted by Envoy and
// timed by its sampled access logs; nothing here runs for a hit.
import { errorCodes } from "#core/errors.ts";
import { parseModelName } from "#core/model.ts";
import type { QuotaName } from "#core/quota.ts";
import type { Histogram } from "#core/samples.ts";
import {
  counter,
  createMetrics,
  gauge,
  histogram,
  type Metrics,
  type MetricsOptions,
  secondsBuckets,
} from "#platform/metrics.ts";
import { type EnvoyStats, hitsOf } from "./envoystats.ts";
import type { MissAnswer } from "./extproc/service.ts";
import type { Fleet } from "./fleet.ts";

const ports = ["http", "grpc"] as const;
const wires = ["rest", "grpc"] as const;
const classes = ["1xx", "2xx", "3xx", "4xx", "5xx"] as const;
export const resourceTypes = ["cluster", "routes", "scope", "runtime", "other"] as const;
const quotaNames = ["requests", "parked", "loads", "load-rate", "warm-bytes"] as const satisfies readonly QuotaName[];
export const copyStates = ["queued", "loading", "ready", "leaving", "failed"] as const;

export const gatewayDefinitions = {
  info: gauge("warmpath_gateway_info", "Always 1; the label says which version runs.", { labels: { version: "open" } }),
  ready: gauge("warmpath_gateway_ready", "1 while the gateway takes misses and its Envoy is connected, else 0."),
  requests: counter("warmpath_requests_total", "Inference requests that came to Envoy, by its ports; counted by Envoy.", {
    labels: { port: ports },
  }),
  responses: counter(
    "warmpath_responses_total",
    "Answers of Envoy by port and class of HTTP status; a gRPC error is 2xx. Counted by Envoy.",
    { labels: { port: ports, class: classes } },
  ),
  activeRequests: gauge("warmpath_active_requests", "Requests that Envoy has and has not answered yet, parked ones included.", {
    labels: { port: ports },
  }),
  hits: counter(
    "warmpath_hits_total",
    "Requests that Envoy routed by itself: those that came less those it asked the gateway about. Counted by Envoy.",
    { labels: { port: ports } },
  ),
  misses: counter("warmpath_misses_total", "Inference requests that had no route and came to the gateway.", {
    labels: { wire: wires },
  }),
  reroutes: counter(
    "warmpath_reroutes_total",
    "Requests that came to the gateway for another pod: every one of their placement set failed them, or one stayed silent for so long that another is tried beside it.",
    { labels: { wire: wires, cause: ["failed", "silent"] } },
  ),
  refusals: counter("warmpath_refusals_total", "Requests that the gateway answered with an error, by its code.", {
    labels: { code: errorCodes },
  }),
  quotaRefusals: counter(
    "warmpath_quota_refusals_total",
    "Refusals for a tenant's quota: requests (per second, counted by Envoy), waits (parked), loads under way, loads per minute, and loads that a pod refused for warm bytes.",
    { labels: { quota: quotaNames } },
  ),
  hitSeconds: histogram(
    "warmpath_hit_seconds",
    "Time of a hit in Envoy, inference included, until its last byte was sent; from sampled access logs, weighted by their share.",
    secondsBuckets,
  ),
  missSeconds: histogram(
    "warmpath_miss_seconds",
    "Time of a request that waited, from its arrival in Envoy to its last byte, inference included; from sampled access logs.",
    secondsBuckets,
  ),
  parkSeconds: histogram(
    "warmpath_park_seconds",
    "How long the gateway held a request: until a copy of its model was ready and routed (live), or until it was refused.",
    secondsBuckets,
    { labels: { outcome: ["live", "refused"] }, alias: { name: "modelmesh_cache_miss_milliseconds", scale: 1_000 } },
  ),
  parked: gauge("warmpath_parked_requests", "Requests that wait for a copy now."),
  flights: gauge("warmpath_load_flights", "Models that requests wait for now."),
  placements: counter("warmpath_placements_total", "Decisions where to load a model, by whether a pod was found.", {
    labels: { result: ["placed", "refused"] },
  }),
  ackSeconds: histogram(
    "warmpath_xds_ack_seconds",
    "From sending a change to Envoy until Envoy acknowledged it, by type of resource.",
    secondsBuckets,
    { labels: { type: resourceTypes } },
  ),
  refusedResources: counter("warmpath_xds_refused_resources_total", "Resources that Envoy refused for good, by type.", {
    labels: { type: resourceTypes },
  }),
  withdrawSeconds: histogram(
    "warmpath_withdraw_ack_seconds",
    "From an adapter's wish to unload a copy until this gateway's Envoy sends nothing there any more.",
    secondsBuckets,
  ),
  envoyConnected: gauge("warmpath_envoy_connected", "1 while Envoy is connected for its configuration, else 0."),
  extProcErrors: counter("warmpath_ext_proc_errors_total", "Times that Envoy could not ask the gateway about a request."),
  models: gauge("warmpath_models", "Registered models.", { alias: { name: "modelmesh_models_managed_total" } }),
  warmModels: gauge("warmpath_warm_models", "Models with a route in Envoy's table.", {
    alias: { name: "modelmesh_models_loaded_total" },
  }),
  placementSets: gauge("warmpath_placement_sets", "Sets of pods that Envoy has clusters for."),
  copies: gauge("warmpath_copies", "Copies that the pods hold, as this gateway was told, by state.", {
    labels: { state: copyStates },
  }),
  pods: gauge("warmpath_pods", "Pods that the registry and their Links say are there, by whether they can be reached.", {
    labels: { reachable: ["true", "false"] },
  }),
  capacityBytes: gauge("warmpath_capacity_bytes", "Memory for models of all pods."),
  usedBytes: gauge("warmpath_used_bytes", "Memory of all pods that models take or that loads have reserved."),
  linkBreaks: counter("warmpath_link_breaks_total", "Times that the Link to a pod broke."),
  usageShare: gauge("warmpath_access_log_share", "Share of requests whose access log Envoy sends to the gateway now."),
  modelRequests: counter(
    "warmpath_model_requests_total",
    "Requests that a pod answered, by model; from sampled access logs. Only with --model-metrics; models beyond that number count as `~other`.",
    { labels: { model: "open" } },
  ),
} as const;

export type GatewayMetrics = Metrics<typeof gatewayDefinitions>;

export interface GatewayMetricsParts {
  readonly version: string;
  readonly fleet: Fleet;
  readonly envoy: EnvoyStats | undefined;
  readonly read: () => {
    readonly ready: boolean;
    readonly envoyConnected: boolean;
    readonly models: number;
    readonly warmModels: number;
    readonly placementSets: number;
    readonly parked: number;
    readonly flights: number;
    readonly usageShare: number;
    readonly hits: Histogram;
    readonly waited: Histogram;
  };
}

export function createGatewayMetrics(options: MetricsOptions): GatewayMetrics {
  return createMetrics(gatewayDefinitions, options);
}

/** Has what is kept elsewhere read at each scrape. */
export function collectGateway({ of, onCollect }: GatewayMetrics, { fleet, envoy, read, version }: GatewayMetricsParts): void {
  of.info.set({ version }, 1);
  onCollect(() => {
    const now = read();
    of.ready.set({}, now.ready ? 1 : 0);
    of.envoyConnected.set({}, now.envoyConnected ? 1 : 0);
    of.models.set({}, now.models);
    of.warmModels.set({}, now.warmModels);
    of.placementSets.set({}, now.placementSets);
    of.parked.set({}, now.parked);
    of.flights.set({}, now.flights);
    of.usageShare.set({}, now.usageShare);
    of.hitSeconds.replace({}, inSeconds(now.hits));
    of.missSeconds.replace({}, inSeconds(now.waited));
    for (const state of copyStates) of.copies.set({ state }, fleet.counts[state]);
    let [reachable, unreachable, capacityBytes, usedBytes] = [0, 0, 0, 0];
    for (const pod of fleet.pods()) {
      reachable += pod.reachable ? 1 : 0;
      unreachable += pod.reachable ? 0 : 1;
      capacityBytes += pod.info.capacityBytes;
      usedBytes += pod.gauges.usedBytes;
    }
    of.pods.set({ reachable: "true" }, reachable);
    of.pods.set({ reachable: "false" }, unreachable);
    of.capacityBytes.set({}, capacityBytes);
    of.usedBytes.set({}, usedBytes);
  });
  onCollect(async () => {
    const counts = await envoy?.read();
    // An Envoy that does not answer leaves the last values: its counters have not gone back.
    if (counts === undefined) return;
    of.extProcErrors.set({}, counts.extProcErrors);
    of.quotaRefusals.set({ quota: "requests" }, counts.limited);
    for (const port of ports) {
      const { requests, active, responses } = counts.ports[port];
      of.requests.set({ port }, requests);
      of.hits.set({ port }, hitsOf(counts.ports[port]));
      of.activeRequests.set({ port }, active);
      for (const each of classes) of.responses.set({ port, class: each }, responses[each] ?? 0);
    }
  });
}

function inSeconds(times: Histogram): {
  readonly count: number;
  readonly sum: number;
  readonly atMost: (seconds: number) => number;
} {
  const { cumulative } = times.state();
  return { count: times.count, sum: times.sumMs / 1_000, atMost: (seconds) => cumulative(seconds * 1_000) };
}

/** Requests by model, for as many models as are asked for; the rest under a name that no model can have. */
export interface ModelCounter {
  add(model: string, requests: number): void;
  /** The model is not registered any more. */
  forget(model: string): void;
}

const otherModels = "~other";

export function createModelCounter({ of }: GatewayMetrics, maxModels: number): ModelCounter {
  const counted = new Set<string>();
  return {
    add(model, requests) {
      if (maxModels === 0) return;
      // What an access log says is what a client wrote.
      const known = counted.has(model) || (counted.size < maxModels && parseModelName(model).kind === "ok");
      if (known) counted.add(model);
      of.modelRequests.add({ model: known ? model : otherModels }, requests);
    },
    forget(model) {
      if (counted.delete(model)) of.modelRequests.remove({ model });
    },
  };
}

export function resourceTypeOf(typeUrl: string): (typeof resourceTypes)[number] {
  if (typeUrl.endsWith(".Cluster")) return "cluster";
  if (typeUrl.endsWith(".ScopedRouteConfiguration")) return "scope";
  if (typeUrl.endsWith(".RouteConfiguration")) return "routes";
  return typeUrl.endsWith(".Runtime") ? "runtime" : "other";
}

export function recordAnswer({ of }: GatewayMetrics, { kind, wire, code, heldMs, traceId }: MissAnswer): void {
  if (wire !== undefined) {
    if (kind === "miss") of.misses.add({ wire });
    else of.reroutes.add({ wire, cause: kind === "hedge" ? "silent" : "failed" });
  }
  if (code !== undefined) of.refusals.add({ code });
  if (wire !== undefined) of.parkSeconds.record({ outcome: code === undefined ? "live" : "refused" }, heldMs / 1_000, traceId);
}
