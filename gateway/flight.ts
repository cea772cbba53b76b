// Owns what is known of one load that requests wait for: a flight. loads.ts moves it on.
import { higherPriority, type LoadClass, loadClasses } from "#core/loadqueue.ts";
import type { Model, Priority, Revision } from "#core/model.ts";
import type { Failure } from "./failure.ts";
import type { Held } from "./quotas.ts";
import type { Step } from "./spans.ts";

export interface Live {
  readonly kind: "live";
  readonly waitedMs: number;
  /** The scope key that leads to a pod which holds the model. */
  readonly entry: string;
}

export type Ensured = Live | Failure;

export interface Flight {
  readonly key: string;
  readonly model: Model;
  readonly revision: Revision;
  /** Pods that are out of question, and why. */
  readonly excluded: Map<string, { readonly reason: string; readonly untilMs: number }>;
  /** Gateways that do not answer, or cannot decide. */
  readonly passedOver: Set<string>;
  readonly waiters: Set<Waiter>;
  readonly stop: AbortController;
  /** Where the first request that waits came back from. */
  readonly returnedFrom: readonly string[] | undefined;
  /** Of the first request that waits; the steps below hang on it. */
  readonly span: Step;
  home: Step | undefined;
  ask: Step | undefined;
  loadClass: LoadClass;
  priority: Priority;
  podId: string | undefined;
  /** While another gateway decides: stops asking it. */
  leaveHome: (() => void) | undefined;
  timer: NodeJS.Timeout | undefined;
  worst: Failure | undefined;
  /** Pods that could make no room. */
  fullPods: number;
  /** How often it has been through all pods. */
  rounds: number;
  /** Of the tenant whose request started it. */
  readonly held: Held | undefined;
}

export interface Waiter {
  readonly arrivedMs: number;
  readonly deadlineMs: number;
  readonly answer: (result: Ensured) => void;
}

export interface Urgency {
  readonly loadClass: LoadClass;
  readonly priority: Priority;
}

export function isMoreUrgent(one: Urgency, other: Urgency): boolean {
  const [rank, otherRank] = [loadClasses.indexOf(one.loadClass), loadClasses.indexOf(other.loadClass)];
  if (rank !== otherRank) return rank < otherRank;
  return one.priority !== other.priority && higherPriority(one.priority, other.priority) === one.priority;
}

export type FlightStart = Pick<
  Flight,
  "key" | "model" | "revision" | "loadClass" | "priority" | "span" | "held" | "returnedFrom"
>;

export function openFlight(start: FlightStart): Flight {
  return {
    ...start,
    excluded: new Map(),
    passedOver: new Set(),
    waiters: new Set(),
    stop: new AbortController(),
    home: undefined,
    ask: undefined,
    podId: undefined,
    leaveHome: undefined,
    timer: undefined,
    worst: undefined,
    fullPods: 0,
    rounds: 0,
  };
}

/** Of those that wait, how long the most patient one will. */
export function longestWaitMs(flight: Flight, nowMs: number): number {
  return Math.max(1, ...Array.from(flight.waiters, ({ deadlineMs }) => deadlineMs - nowMs));
}
