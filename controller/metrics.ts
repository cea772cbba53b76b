// Owns what a controller tells Prometheus.
import {
  counter,
  createMetrics,
  gauge,
  histogram,
  type Metrics,
  type MetricsOptions,
  secondsBuckets,
} from "#platform/metrics.ts";
import type { ReconcileWatch } from "./engine/reconcile.ts";

const kinds = ["model", "runtime", "policy"] as const;
/** `again`: as it should be, and looked at once more after a while. */
const outcomes = ["done", "again", "failed"] as const;
export const objectKinds = ["inferenceservice", "predictor", "model", "runtime", "accesspolicy"] as const;

export type WorkKind = (typeof kinds)[number];

export const controllerDefinitions = {
  leading: gauge("warmpath_controller_leading", "1 while this controller works, 0 while it stands by."),
  synced: gauge("warmpath_controller_synced", "1 once it knows every object and record, else 0."),
  objects: gauge("warmpath_controller_objects", "Objects that it serves, by kind; runtimes of the cluster included.", {
    labels: { kind: objectKinds },
  }),
  queued: gauge("warmpath_controller_queued", "Names that wait to be looked at, by kind.", { labels: { kind: kinds } }),
  reconciles: counter("warmpath_controller_reconciles_total", "Names that were looked at, by what became of them.", {
    labels: { kind: kinds, outcome: outcomes },
  }),
  reconcileSeconds: histogram(
    "warmpath_controller_reconcile_seconds",
    "Time of one look at a name, calls included.",
    secondsBuckets,
    {
      labels: { kind: kinds },
    },
  ),
  apiCalls: counter("warmpath_controller_api_calls_total", "Calls of the API server; a watch is one.", {
    labels: { kind: ["read", "write"] },
  }),
} as const;

export type ControllerMetrics = Metrics<typeof controllerDefinitions>;

/** What is read at each scrape. */
export interface ControllerFacts {
  readonly isLeading: boolean;
  readonly isSynced: boolean;
  readonly reads: number;
  readonly writes: number;
  readonly objects: Readonly<Record<(typeof objectKinds)[number], number>>;
  readonly queued: Readonly<Record<WorkKind, number>>;
}

export function createControllerMetrics(options: MetricsOptions): ControllerMetrics {
  return createMetrics(controllerDefinitions, options);
}

export function collectController({ of, onCollect }: ControllerMetrics, read: () => ControllerFacts): void {
  onCollect(() => {
    const { isLeading, isSynced, reads, writes, objects, queued } = read();
    of.leading.set({}, isLeading ? 1 : 0);
    of.synced.set({}, isSynced ? 1 : 0);
    of.apiCalls.set({ kind: "read" }, reads);
    of.apiCalls.set({ kind: "write" }, writes);
    for (const kind of objectKinds) of.objects.set({ kind }, objects[kind]);
    for (const kind of kinds) of.queued.set({ kind }, queued[kind]);
  });
}

export function watchReconciles({ of }: ControllerMetrics, kind: WorkKind): ReconcileWatch {
  return (outcome, tookMs) => {
    of.reconciles.add({ kind, outcome });
    of.reconcileSeconds.record({ kind }, tookMs / 1_000);
  };
}
