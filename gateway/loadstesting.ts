// Owns what tests of loads stand on: a fleet without a wire, the gateways beside this one, and what is sent to them.
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { createDecisions } from "./decisions.ts";
import { type Copy, type CopyChange, createFleet, type Fleet } from "./fleet.ts";
import type { Ensured } from "./flight.ts";
import { createLoads, type Loads } from "./loads.ts";
import type { PeerAsk, PeerAskListener } from "./peers.ts";
import { createPlacements } from "./placements.ts";
import type { Routes } from "./routes.ts";
import { silentSpan } from "./spans.ts";
import { createSuspects, type Suspects } from "./suspects.ts";
import { modelOf } from "./testing.ts";

export interface LoadsBench {
  readonly fleet: Fleet;
  readonly loads: Loads;
  /** "load pod model" and "cancel pod model", in order. */
  readonly sent: string[];
  /** Models that Envoy has acknowledged. */
  readonly settled: Set<string>;
  settle(model: string): void;
  /** Gateways that live besides this one; all of them are home of everything, in this order. */
  readonly others: string[];
  /** Pods that were asked in the background. */
  readonly asked: string[];
  readonly peerAsks: PeerAskSeen[];
  /** Deaths of model servers are to be told here before the fleet hears of them. */
  readonly suspects: Suspects;
}

export interface PeerAskSeen {
  readonly gatewayId: string;
  readonly ask: PeerAsk;
  readonly listener: PeerAskListener;
  cancelled: boolean;
}

export interface LoadsBenchOptions {
  readonly maxWaiting?: number;
  readonly loadTimeoutMs?: number;
  /** Whether pods are on their way. */
  readonly awaits?: () => boolean;
}

export function openLoadsBench(options: LoadsBenchOptions = {}): LoadsBench {
  const sent: string[] = [];
  const settled = new Set<string>();
  const waiters = new Map<string, (() => void)[]>();
  const routes: Routes = {
    refresh: () => undefined,
    entry: (podId) => (fleet.pod(podId) === undefined ? undefined : `~${podId}`),
    lacking: () => [],
    isRouted: (model) => [...fleet.holders(model)].some(({ copy }) => copy.state === "ready"),
    isSettled: (model) => settled.has(model),
    async whenSettled(model, signal) {
      if (settled.has(model)) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      waiters.set(model, [...(waiters.get(model) ?? []), resolve]);
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      await promise;
    },
    onAcked: () => undefined,
  };
  const fleet = createFleet({
    onCopies(podId, changes) {
      suspects.onCopies(podId, changes);
      loads.onCopies(podId, changes);
    },
    onPod: (podId) => {
      if (fleet.pod(podId)?.reachable !== true) loads.onUnreachable(podId);
    },
  });
  const others: string[] = [];
  const asked: string[] = [];
  const peerAsks: PeerAskSeen[] = [];
  const suspects = createSuspects(systemClock);
  const loads = createLoads({
    fleet,
    routes,
    placements: createPlacements(fleet, systemClock),
    home: {
      of(_model, passedOver = new Set()) {
        const gatewayId = others.find((id) => !passedOver.has(id));
        return gatewayId === undefined ? undefined : { gatewayId, incarnation: "1", peerAddress: `${gatewayId}:1` };
      },
      suspect: () => undefined,
    },
    peers: {
      ensure({ gatewayId }, ask, listener) {
        const seen = { gatewayId, ask, listener, cancelled: false };
        peerAsks.push(seen);
        return () => {
          seen.cancelled = true;
        };
      },
    },
    suspects,
    decisions: createDecisions(systemClock),
    clock: systemClock,
    log: silentLog,
    asked: () => asked,
    awaits: options.awaits ?? (() => false),
    sendLoad: (podId, model) => sent.push(`load ${podId} ${model}`),
    cancelLoad: (podId, model) => sent.push(`cancel ${podId} ${model}`),
    maxWaiting: options.maxWaiting ?? 100,
    loadTimeoutMs: options.loadTimeoutMs ?? 10_000,
  });
  const settle = (model: string): void => {
    settled.add(model);
    for (const waiter of waiters.get(model) ?? []) waiter();
  };
  return { fleet, loads, sent, settled, settle, others, asked, peerAsks, suspects };
}

export function copy(model: string, state: Copy["state"], failure?: Copy["failure"]): Copy {
  return { model, revision: "r1", slot: 0, state, sizeBytes: 1_000, ...(failure === undefined ? {} : { failure }) };
}

export function ask(loads: Loads, name: string, deadlineMs = 10_000, signal = new AbortController().signal): Promise<Ensured> {
  return loads.ensure(modelOf(name), { deadlineMs: systemClock.monotonicMs() + deadlineMs, signal, span: silentSpan });
}

export function change(fleet: Fleet, podId: string, ...changes: CopyChange[]): void {
  fleet.change(podId, changes);
}
