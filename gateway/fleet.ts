// Owns what this gateway knows of the pods: told by each adapter over its Link, never guessed.
// Invariants: a pod's holding is replaced by a snapshot and changed by deltas only; the index by model is the same
// copies seen from the other side. Listeners are told what changed after the change is whole.
import type { PodView } from "#core/placement/request.ts";
import { type Clock, systemClock } from "#platform/clock.ts";

export type CopyState = "queued" | "loading" | "ready" | "leaving" | "failed";

/** `server-died`: the model server died while it loaded the model, which may be why. */
export type FailureKind = "model" | "pod" | "storage" | "capacity" | "server-died";

export interface CopyFailure {
  readonly kind: FailureKind;
  readonly reason: string;
  /** With `server-died`: how many loads were under way there. */
  readonly suspects?: number;
}

export interface Copy {
  readonly model: string;
  readonly revision: string;
  readonly slot: number;
  readonly state: CopyState;
  readonly sizeBytes: number;
  readonly failure?: CopyFailure;
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
  /** Of a stream of requests its model server takes the header mm-model-id for what all its messages mean. */
  readonly streamsByHeader?: true;
  readonly labels: Readonly<Record<string, string>>;
  /** What its model server can serve: `onnx`, or with a version, `sklearn:1`. */
  readonly formats: readonly string[];
  /** Its model server speaks V2 over gRPC alone. */
  readonly restByGrpc?: true;
  /** How often its model server was lost since its adapter began. */
  readonly losses?: number;
  /** Its model server does not mark its "not found". */
  readonly absenceByStatus?: boolean;
  /** Methods whose messages must name the model: `package.Service/Method` to the numbers of the fields, `1.1`. */
  readonly idInjections?: ReadonlyMap<string, string>;
  /** How long a load may take there, where it said so. */
  readonly loadTimeoutMs?: number;
  /** `host:port` where its adapter tells metrics. */
  readonly metricsAddress?: string;
}

/** The pod itself says when its time is over; whoever waits for that hears of it a moment later. */
const saidWithinMs = 5_000;

/** How long a load on this pod is waited for. */
export function loadPatienceMs(usualMs: number, pod: Pick<PodInfo, "loadTimeoutMs"> | undefined): number {
  return pod?.loadTimeoutMs === undefined ? usualMs : Math.max(usualMs, pod.loadTimeoutMs + saidWithinMs);
}

export interface PodGauges {
  readonly usedBytes: number;
  readonly queued: number;
  readonly loading: number;
  readonly oldestIdleMs: number;
  readonly evictions: number;
  readonly loads: number;
  readonly loadFailures: number;
  /** It takes no load on any more and is being emptied. */
  readonly draining: boolean;
  readonly requestsPerSecond: number;
  /** Loads that wait: for users, ensure, scale-up, migrate, proactive. */
  readonly queuedByClass?: readonly number[];
}

export interface Holder {
  readonly podId: string;
  readonly copy: Copy;
}

export interface Pod {
  readonly info: PodInfo;
  readonly gauges: PodGauges;
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
  /** Pods that hold the revision ready, now. */
  readyPods(model: string, revision: string): readonly string[];
  /** The pod is linked, with this holding. */
  attach(info: PodInfo, copies: readonly Copy[]): void;
  change(podId: string, changes: readonly CopyChange[]): void;
  setGauges(podId: string, gauges: PodGauges): void;
  /** It is being emptied; its gauges say so too, but later. */
  setDraining(podId: string): void;
  /** How often its model server has been lost now; that its copies are gone is told after it. */
  setLosses(podId: string, losses: number): void;
  setUnreachable(podId: string): void;
  detach(podId: string): void;
  /** The pods as placements see them: the same array until something changes. */
  views(): readonly PodView[];
  /** Pods that hold models together with this one. */
  partners(podId: string): ReadonlySet<string>;
  readonly counts: FleetCounts;
}

export interface FleetCounts {
  readonly ready: number;
  readonly loading: number;
  readonly queued: number;
  readonly leaving: number;
  readonly failed: number;
}

interface PodEntry extends Pod {
  info: PodInfo;
  gauges: PodGauges;
  reachable: boolean;
  copies: Map<string, Copy>;
  readonly sinceMs: number;
  /** How many models it holds ready together with each other pod. */
  readonly shared: Map<string, number>;
  view: PodView | undefined;
}

/** Of a pod that has not said yet. */
export const noGauges: PodGauges = {
  usedBytes: 0,
  queued: 0,
  loading: 0,
  oldestIdleMs: 0,
  evictions: 0,
  loads: 0,
  loadFailures: 0,
  draining: false,
  requestsPerSecond: 0,
};
const nobody: ReadonlySet<string> = new Set();

export interface CopyName {
  readonly model: string;
  readonly revision: string;
}

/** One copy within a pod: no name holds an `@`. */
export function copyKey(copy: CopyName): string {
  return `${copy.model}@${copy.revision}`;
}

/** The model of a copy's key. */
export function modelOfKey(key: string): string {
  return key.slice(0, key.indexOf("@"));
}

export function createFleet(listener: FleetListener, clock: Pick<Clock, "monotonicMs"> = systemClock): Fleet {
  const pods = new Map<string, PodEntry>();
  let views: readonly PodView[] | undefined;
  const byModel = new Map<string, Map<string, Holder>>();
  const counts = { ready: 0, loading: 0, queued: 0, leaving: 0, failed: 0 };

  function put(pod: PodEntry, copy: Copy): void {
    const key = copyKey(copy);
    const was = pod.copies.get(key);
    if (was !== undefined) counts[was.state] -= 1;
    counts[copy.state] += 1;
    share(pod, copy, (copy.state === "ready" ? 1 : 0) - (was?.state === "ready" ? 1 : 0));
    pod.copies.set(key, copy);
    const { podId } = pod.info;
    const holders = byModel.get(copy.model) ?? new Map<string, Holder>();
    byModel.set(copy.model, holders.set(`${podId}@${copy.revision}`, { podId, copy }));
  }

  function drop(pod: PodEntry, copy: CopyName): void {
    const key = copyKey(copy);
    const was = pod.copies.get(key);
    if (was === undefined) return;
    counts[was.state] -= 1;
    share(pod, was, was.state === "ready" ? -1 : 0);
    pod.copies.delete(key);
    const holders = byModel.get(copy.model);
    holders?.delete(`${pod.info.podId}@${copy.revision}`);
    if (holders?.size === 0) byModel.delete(copy.model);
  }

  /** The pod holds the model together with those that hold it ready already, or does so no more. */
  function share(pod: PodEntry, { model, revision }: CopyName, change: number): void {
    if (change === 0) return;
    for (const { podId, copy } of byModel.get(model)?.values() ?? []) {
      const other =
        podId === pod.info.podId || copy.revision !== revision || copy.state !== "ready" ? undefined : pods.get(podId);
      if (other === undefined) continue;
      count(pod.shared, podId, change);
      count(other.shared, pod.info.podId, change);
    }
  }

  function touch(pod: PodEntry): void {
    pod.view = undefined;
    views = undefined;
  }

  function viewOf(pod: PodEntry): PodView {
    const { info, gauges, reachable } = pod;
    pod.view ??= {
      podId: info.podId,
      runtime: info.runtime,
      formats: info.formats,
      labels: info.labels,
      capacityBytes: info.capacityBytes,
      usedBytes: gauges.usedBytes,
      queued: gauges.queued,
      loading: gauges.loading,
      oldestIdleMs: gauges.oldestIdleMs,
      draining: gauges.draining,
      reachable,
      requestsPerSecond: gauges.requestsPerSecond,
      ageMs: clock.monotonicMs() - pod.sinceMs,
      zone: info.labels["topology.kubernetes.io/zone"],
      node: info.labels["kubernetes.io/hostname"],
    };
    return pod.view;
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
    readyPods: (model, revision) =>
      Array.from(byModel.get(model)?.values() ?? []).flatMap(({ podId, copy }) =>
        copy.revision === revision && copy.state === "ready" ? [podId] : [],
      ),
    attach(info, copies) {
      const pod = pods.get(info.podId) ?? {
        info,
        gauges: noGauges,
        reachable: true,
        copies: new Map<string, Copy>(),
        sinceMs: clock.monotonicMs(),
        shared: new Map<string, number>(),
        view: undefined,
      };
      // Another life of the adapter: what the one before was about to do counts no more.
      if (pod.info.incarnation !== info.incarnation) pod.gauges = noGauges;
      touch(pod);
      pods.set(info.podId, pod);
      pod.info = info;
      pod.reachable = true;
      const held = new Set(copies.map(copyKey));
      const gone: CopyChange[] = [...pod.copies.values()].flatMap((copy) =>
        held.has(copyKey(copy)) ? [] : [{ ...copy, state: "gone" as const }],
      );
      // A failure that was told before the Link broke is no news.
      const news = copies.filter((copy) => copy.state !== "failed" || pod.copies.get(copyKey(copy))?.state !== "failed");
      const changes = [...gone, ...news];
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
      if (pod === undefined) return;
      const starts = gauges.draining && !pod.gauges.draining;
      pod.gauges = gauges;
      touch(pod);
      if (starts) listener.onPod(podId);
    },
    setDraining(podId) {
      const pod = pods.get(podId);
      if (pod === undefined || pod.gauges.draining) return;
      pod.gauges = { ...pod.gauges, draining: true };
      touch(pod);
      listener.onPod(podId);
    },
    setLosses(podId, losses) {
      const pod = pods.get(podId);
      if (pod === undefined) return;
      pod.info = { ...pod.info, losses };
      listener.onPod(podId);
    },
    setUnreachable(podId) {
      const pod = pods.get(podId);
      if (pod === undefined || !pod.reachable) return;
      pod.reachable = false;
      touch(pod);
      listener.onPod(podId);
    },
    detach(podId) {
      const pod = pods.get(podId);
      if (pod === undefined) return;
      const changes: CopyChange[] = [...pod.copies.values()].map((copy) => ({ ...copy, state: "gone" }));
      apply(pod, changes);
      pods.delete(podId);
      views = undefined;
      listener.onPod(podId);
      listener.onCopies(podId, changes);
    },
    views: () => (views ??= Array.from(pods.values(), viewOf)),
    partners(podId) {
      const shared = pods.get(podId)?.shared;
      return shared === undefined || shared.size === 0 ? nobody : new Set(shared.keys());
    },
    counts,
  };
}

function count(counts: Map<string, number>, key: string, change: number): void {
  const next = (counts.get(key) ?? 0) + change;
  if (next > 0) counts.set(key, next);
  else counts.delete(key);
}
