// Owns what the live page is told: the fleet as it is, then what changes, to each browser at its own pace.
//
//   connected --fleet--> following --changes, every tickMs--> ...
//                          ^   |
//                          +---+ too much changed meanwhile: the whole fleet again
//
// Invariants: what a slow browser has not read is conflated by copy, never piled up: at most maxPending changes wait for it,
// and beyond that it is sent the whole fleet once it reads again; nothing is gathered while nobody looks.
import type { Copy, CopyChange, Fleet } from "./fleet.ts";

/** A copy on the wire: model, revision, state, bytes. */
type WireCopy = readonly [model: string, revision: string, state: CopyChange["state"], sizeBytes: number];

/** Where events go: a response that takes lines and says when it is full. */
export interface FeedSink {
  /** False when it wants no more until it is drained. */
  write(text: string): boolean;
  readonly full: boolean;
}

export interface Feed {
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** Requests by model since the last call. */
  onUse(uses: ReadonlyMap<string, { readonly requests: number }>): void;
  /** Returns how to end it; undefined when too many look already. */
  connect(sink: FeedSink): (() => void) | undefined;
  /** To be called every tickMs. */
  tick(numbers: () => Promise<unknown>): Promise<void>;
  readonly viewers: number;
}

export const tickMs = 500;
const maxViewers = 32;
const maxPending = 20_000;
/** The models used most; the eye does not see more. */
const maxUses = 400;
const maxCopiesInEvent = 5_000;

interface Viewer {
  readonly sink: FeedSink;
  /** By pod and copy; undefined: the whole fleet is due. */
  pending: Map<string, readonly [podId: string, copy: WireCopy]> | undefined;
}

export function createFeed(fleet: () => Fleet): Feed {
  const viewers = new Set<Viewer>();
  let uses = new Map<string, number>();

  function send(viewer: Viewer, event: string, value: unknown): void {
    viewer.sink.write(`event: ${event}\ndata: ${JSON.stringify(value)}\n\n`);
  }

  function sendFleet(viewer: Viewer): void {
    viewer.pending = new Map();
    send(viewer, "fleet", pods());
    for (const pod of fleet().pods()) {
      const copies = Array.from(pod.copies.values(), wireOf);
      for (let at = 0; at < copies.length; at += maxCopiesInEvent) {
        send(viewer, "copies", { pod: pod.info.podId, copies: copies.slice(at, at + maxCopiesInEvent) });
      }
    }
    send(viewer, "whole", {});
  }

  function pods(): unknown {
    return Array.from(fleet().pods(), ({ info, gauges, reachable }) => ({
      pod: info.podId,
      runtime: info.runtime,
      capacityBytes: info.capacityBytes,
      usedBytes: gauges.usedBytes,
      queued: gauges.queued,
      loading: gauges.loading,
      queuedByClass: gauges.queuedByClass ?? [],
      evictions: gauges.evictions,
      loads: gauges.loads,
      reachable,
    }));
  }

  return {
    onCopies(podId, changes) {
      for (const viewer of viewers) {
        const { pending } = viewer;
        if (pending === undefined) continue;
        for (const change of changes) pending.set(`${podId}/${change.model}@${change.revision}`, [podId, wireOf(change)]);
        if (pending.size > maxPending) viewer.pending = undefined;
      }
    },
    onUse(more) {
      if (viewers.size === 0) return;
      for (const [model, { requests }] of more) uses.set(model, (uses.get(model) ?? 0) + requests);
    },
    connect(sink) {
      if (viewers.size >= maxViewers) return undefined;
      const viewer: Viewer = { sink, pending: undefined };
      viewers.add(viewer);
      return () => void viewers.delete(viewer);
    },
    async tick(numbers) {
      if (viewers.size === 0) return;
      const busiest = Array.from(uses)
        .sort(([, a], [, b]) => b - a)
        .slice(0, maxUses);
      uses = new Map();
      const now = { pods: pods(), numbers: await numbers(), uses: busiest };
      for (const viewer of viewers) {
        // What it has not read yet it is told anew when it has.
        if (viewer.sink.full) continue;
        if (viewer.pending === undefined) sendFleet(viewer);
        else if (viewer.pending.size > 0) {
          const changes = Array.from(viewer.pending.values());
          viewer.pending = new Map();
          send(viewer, "changes", changes);
        }
        send(viewer, "now", now);
      }
    },
    get viewers() {
      return viewers.size;
    },
  };
}

function wireOf({ model, revision, state, sizeBytes }: Copy | CopyChange): WireCopy {
  return [model, revision, state, sizeBytes];
}
