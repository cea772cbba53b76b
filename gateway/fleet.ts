// Owns what this gateway knows of the pods: told by each adapter over its Link, never guessed.
// Invariants: a pod's holding is replaced by a snapshot and changed by deltas only; the index by model is the same
// copies seen from the other side. Listeners are told what changed after the change is whole.
import type { PodView } from "#core/placement/request.ts";

export type CopyState = "queued" | "loading" | "ready" | "leaving" | "failed";

export type FailureKind = "model" | "pod" | "storage" | "capacity";

export interface Copy {
  readonly model: string;
  readonly revision: string;
  readonly slot: number;
  readonly state: CopyState;
  readonly sizeBytes: number;
  readonly failure?: { readonly kind: FailureKind; readonly reason: string };
}

/** A change of one copy; "gone" takes it out. */
export type CopyChange = Copy | (Omit<Copy, "state"> & { readonly state: "gone" });

export interface PodInfo {
  readonly podId: string;
  readonly incarnation: string;
  readonly runtime: string;
  readonly capacityBytes: number;
  readonly rest: { readonly host: string; readonly port: number };
  readonly grpc: { readonly host: string; readonly port: number };
  readonly labels: Readonly<Record<string, string>>;
  /** What its model server can serve: `onnx`, or with a version, `sklearn:1`. */
  readonly formats: readonly string[];
}

export interface PodGauges {
  readonly usedBytes: number;
  readonly queued: number;
  readonly loading: number;
  readonly oldestIdleMs: number;
  readonly evictions: number;
  readonly loads: number;
  readonly loadFailures: number;
}

export interface Holder {
  readonly podId: string;
  readonly copy: Copy;
}

export interface Pod {
  readonly info: PodInfo;
  readonly gauges: PodGauges;
  readonly requestsPerSecond: number;
  /** False while its Link is broken: its copies still serve, but nothing new is placed there. */
  readonly reachable: boolean;
  /** By copyKey. */
  readonly copies: ReadonlyMap<string, Copy>;
}

export interface FleetListener {
  /** Copies of one pod changed. */
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  onPod(podId: string): void;
}

export interface Fleet {
  pod(podId: string): Pod | undefined;
  pods(): IterableIterator<Pod>;
  /** Who holds the model, in any revision and state. */
  holders(model: string): Iterable<Holder>;
  /** The pod is linked, with this holding. */
  attach(info: PodInfo, copies: readonly Copy[]): void;
  change(podId: string, changes: readonly CopyChange[]): void;
  setGauges(podId: string, gauges: PodGauges): void;
  setRate(podId: string, requestsPerSecond: number): void;
  setUnreachable(podId: string): void;
  detach(podId: string): void;
  views(): PodView[];
  readonly counts: FleetCounts;
}

export interface FleetCounts {
  readonly ready: number;
  readonly loading: number;
  readonly queued: number;
}

interface PodEntry extends Pod {
  info: PodInfo;
  gauges: PodGauges;
  requestsPerSecond: number;
  reachable: boolean;
  copies: Map<string, Copy>;
}

const noGauges: PodGauges = { usedBytes: 0, queued: 0, loading: 0, oldestIdleMs: 0, evictions: 0, loads: 0, loadFailures: 0 };

/** One copy within a pod: no name holds an `@`. */
export function copyKey(copy: { readonly model: string; readonly revision: string }): string {
  return `${copy.model}@${copy.revision}`;
}

export function createFleet(listener: FleetListener): Fleet {
  const pods = new Map<string, PodEntry>();
  const byModel = new Map<string, Map<string, Holder>>();
  const counts = { ready: 0, loading: 0, queued: 0, leaving: 0, failed: 0 };

  function put(pod: PodEntry, copy: Copy): void {
    const key = copyKey(copy);
    const was = pod.copies.get(key);
    if (was !== undefined) counts[was.state] -= 1;
    counts[copy.state] += 1;
    pod.copies.set(key, copy);
    const { podId } = pod.info;
    const holders = byModel.get(copy.model) ?? new Map<string, Holder>();
    byModel.set(copy.model, holders.set(`${podId}@${copy.revision}`, { podId, copy }));
  }

  function drop(pod: PodEntry, copy: { readonly model: string; readonly revision: string }): void {
    const key = copyKey(copy);
    const was = pod.copies.get(key);
    if (was === undefined) return;
    counts[was.state] -= 1;
    pod.copies.delete(key);
    const holders = byModel.get(copy.model);
    holders?.delete(`${pod.info.podId}@${copy.revision}`);
    if (holders?.size === 0) byModel.delete(copy.model);
  }

  function apply(pod: PodEntry, changes: readonly CopyChange[]): void {
    for (const change of changes) {
      if (change.state === "gone") drop(pod, change);
      else put(pod, { ...change, state: change.state });
    }
  }

  return {
    pod: (podId) => pods.get(podId),
    pods: () => pods.values(),
    holders: (model) => byModel.get(model)?.values() ?? [],
    attach(info, copies) {
      const pod = pods.get(info.podId) ?? {
        info,
        gauges: noGauges,
        requestsPerSecond: 0,
        reachable: true,
        copies: new Map<string, Copy>(),
      };
      pods.set(info.podId, pod);
      pod.info = info;
      pod.reachable = true;
      const held = new Set(copies.map(copyKey));
      const gone: CopyChange[] = [...pod.copies.values()].flatMap((copy) =>
        held.has(copyKey(copy)) ? [] : [{ ...copy, state: "gone" as const }],
      );
      const changes = [...gone, ...copies];
      apply(pod, changes);
      listener.onPod(info.podId);
      listener.onCopies(info.podId, changes);
    },
    change(podId, changes) {
      const pod = pods.get(podId);
      if (pod === undefined) return;
      apply(pod, changes);
      listener.onCopies(podId, changes);
    },
    setGauges(podId, gauges) {
      const pod = pods.get(podId);
      if (pod !== undefined) pod.gauges = gauges;
    },
    setRate(podId, requestsPerSecond) {
      const pod = pods.get(podId);
      if (pod !== undefined) pod.requestsPerSecond = requestsPerSecond;
    },
    setUnreachable(podId) {
      const pod = pods.get(podId);
      if (pod === undefined || !pod.reachable) return;
      pod.reachable = false;
      listener.onPod(podId);
    },
    detach(podId) {
      const pod = pods.get(podId);
      if (pod === undefined) return;
      const changes: CopyChange[] = [...pod.copies.values()].map((copy) => ({ ...copy, state: "gone" }));
      apply(pod, changes);
      pods.delete(podId);
      listener.onPod(podId);
      listener.onCopies(podId, changes);
    },
    views: () =>
      [...pods.values()].map(({ info, gauges, requestsPerSecond, reachable }) => ({
        podId: info.podId,
        runtime: info.runtime,
        formats: info.formats,
        labels: info.labels,
        capacityBytes: info.capacityBytes,
        usedBytes: gauges.usedBytes,
        queued: gauges.queued,
        loading: gauges.loading,
        oldestIdleMs: gauges.oldestIdleMs,
        draining: false,
        reachable,
        requestsPerSecond,
        zone: info.labels["topology.kubernetes.io/zone"],
        node: info.labels["kubernetes.io/hostname"],
      })),
    counts,
  };
}
