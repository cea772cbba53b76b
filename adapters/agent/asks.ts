// Owns the loads that were asked for and have not started: who asks, how urgently, until when.
//
//   asked --> queue --its turn--> hand --room--> (started: no ask any more)
//              ^                   |  ^
//              |                   v  |
//              +-- user joins -- parked      (only copies younger than the anti-thrash age could make room)
//
// In hand are the few whose room is being made, in the order in which they were taken.
// Invariants: an ask is in one place; it leaves when no gateway asks any longer, or at its deadline; queue, hand and
// parked are all bounded.
import { createLoadQueue, higherPriority, type LoadClass, type LoadEntry, loadClasses } from "#core/loadqueue.ts";
import type { Priority, Revision } from "#core/model.ts";

export interface Ask {
  readonly key: string;
  readonly model: string;
  readonly revision: Revision;
  /** What the model server calls it. */
  readonly serverName: string;
  readonly gateways: Set<string>;
  readonly askedMs: number;
  traceparent: string | undefined;
  loadClass: LoadClass;
  priority: Priority;
  deadlineMs: number;
  /** Never to be evicted for others. */
  pinned: boolean;
  /** How often the model is asked for, as far as the gateway knows. */
  requestsPerSecond: number;
  /** Whose the model is, and what that tenant's copies may take here, as the gateway that spoke last knows. */
  tenant?: string | undefined;
  tenantBytes?: number | undefined;
  lastUsedMs: number;
  /** Undefined until it was looked up. */
  artefactBytes: number | undefined;
  predictedBytes?: number | undefined;
  place: "queue" | "hand" | "parked";
  /** Since when it waits for copies that are used much more than it. */
  hotSinceMs: number | undefined;
}

export interface AsksOptions {
  readonly maxQueued: number;
  readonly maxParked: number;
  readonly agedAfterMs: number;
  readonly agedTurnEvery: number;
}

export type NewAsk = Omit<
  Ask,
  "gateways" | "artefactBytes" | "predictedBytes" | "place" | "askedMs" | "traceparent" | "hotSinceMs"
> & {
  readonly gatewayId: string;
  readonly traceparent?: string | undefined;
};

export type AddedAsk =
  | { readonly kind: "queued" | "joined" | "queue-full" | "too-late" }
  /** Another one, of a lower class, was dropped for it. */
  | { readonly kind: "queued"; readonly dropped: Ask };

export interface Asks {
  readonly size: number;
  /** How many are of each class. */
  readonly byClass: Readonly<Record<LoadClass, number>>;
  get(key: string): Ask | undefined;
  /** Call expire first, with the same time. */
  add(ask: NewAsk, nowMs: number): AddedAsk;
  /** True when nobody asks any longer: the ask has left. */
  leave(key: string, gatewayId: string): boolean;
  remove(key: string): void;
  keysOf(gatewayId: string): readonly string[];
  /** Those past their deadline; they have left. */
  expire(nowMs: number): readonly Ask[];
  /** In the order in which they were taken; a snapshot. */
  hand(): readonly Ask[];
  /** Takes the next one of the queue in hand; undefined when it is empty. */
  take(nowMs: number): Ask | undefined;
  /** False when too many are parked already. */
  park(ask: Ask): boolean;
  /** Puts the most urgent parked one back in hand. */
  unpark(): void;
  readonly parked: number;
  nextDueMs(): number | undefined;
  values(): Iterable<Ask>;
}

export function createAsks(options: AsksOptions): Asks {
  const { maxQueued: maxEntries, agedAfterMs, agedTurnEvery, maxParked } = options;
  const queue = createLoadQueue<string, Ask>({ maxEntries, agedAfterMs, agedTurnEvery });
  const asks = new Map<string, Ask>();
  const counts = { "waiting-user": 0, ensure: 0, "scale-up": 0, migrate: 0, proactive: 0 } satisfies Record<LoadClass, number>;
  let hand: Ask[] = [];
  let parked: Ask[] = [];

  const remove = (key: string): void => {
    const ask = asks.get(key);
    if (ask === undefined) return;
    asks.delete(key);
    counts[ask.loadClass] -= 1;
    queue.remove(key);
    hand = hand.filter((other) => other !== ask);
    parked = parked.filter((other) => other !== ask);
  };

  const entryOf = (ask: Ask): Omit<LoadEntry<string, Ask>, "addedMs"> => ({
    key: ask.key,
    value: ask,
    loadClass: ask.loadClass,
    priority: ask.priority,
    deadlineMs: ask.deadlineMs,
  });

  const join = (ask: Ask, more: NewAsk, nowMs: number): AddedAsk => {
    ask.gateways.add(more.gatewayId);
    ask.traceparent ??= more.traceparent;
    ask.deadlineMs = Math.max(ask.deadlineMs, more.deadlineMs);
    ask.lastUsedMs = Math.max(ask.lastUsedMs, more.lastUsedMs);
    ask.requestsPerSecond = Math.max(ask.requestsPerSecond, more.requestsPerSecond);
    ask.pinned = more.pinned;
    ask.tenant = more.tenant;
    ask.tenantBytes = more.tenantBytes;
    ask.priority = higherPriority(ask.priority, more.priority);
    if (loadClasses.indexOf(more.loadClass) < loadClasses.indexOf(ask.loadClass)) {
      counts[ask.loadClass] -= 1;
      counts[more.loadClass] += 1;
      ask.loadClass = more.loadClass;
    }
    if (ask.place === "queue") queue.add(entryOf(ask), nowMs);
    else if (ask.place === "parked" && ask.loadClass === "waiting-user" && ask.hotSinceMs === undefined) {
      parked = parked.filter((other) => other !== ask);
      ask.place = "hand";
      hand.push(ask);
    }
    return { kind: "joined" };
  };

  return {
    get size(): number {
      return asks.size;
    },
    get parked(): number {
      return parked.length;
    },
    byClass: counts,
    get: (key) => asks.get(key),
    values: () => asks.values(),
    hand: () => [...hand],
    remove,

    add(more, nowMs): AddedAsk {
      const known = asks.get(more.key);
      if (known !== undefined) return join(known, more, nowMs);
      const { gatewayId, traceparent, ...rest } = more;
      const ask: Ask = {
        ...rest,
        gateways: new Set([gatewayId]),
        askedMs: nowMs,
        traceparent,
        artefactBytes: undefined,
        place: "queue",
        hotSinceMs: undefined,
      };
      const added = queue.add(entryOf(ask), nowMs);
      // The caller let go of what had expired, and a new key joins nothing.
      if (added.kind === "queue-full" || added.kind === "too-late") return { kind: added.kind };
      asks.set(ask.key, ask);
      counts[ask.loadClass] += 1;
      if (added.kind === "joined" || added.dropped === undefined) return { kind: "queued" };
      asks.delete(added.dropped.key);
      counts[added.dropped.value.loadClass] -= 1;
      return { kind: "queued", dropped: added.dropped.value };
    },

    leave(key, gatewayId): boolean {
      const ask = asks.get(key);
      if (ask === undefined || !ask.gateways.delete(gatewayId) || ask.gateways.size > 0) return false;
      remove(key);
      return true;
    },

    keysOf: (gatewayId) => Array.from(asks.values()).flatMap((ask) => (ask.gateways.has(gatewayId) ? [ask.key] : [])),

    expire(nowMs): readonly Ask[] {
      const expired = [
        ...queue.expire(nowMs).map((entry) => entry.value),
        ...[...hand, ...parked].filter((ask) => ask.deadlineMs <= nowMs),
      ];
      for (const ask of expired) remove(ask.key);
      return expired;
    },

    take(nowMs): Ask | undefined {
      const ask = queue.next(nowMs).entry?.value;
      if (ask === undefined) return undefined;
      ask.place = "hand";
      hand.push(ask);
      return ask;
    },

    park(ask): boolean {
      if (parked.length >= maxParked) return false;
      hand = hand.filter((other) => other !== ask);
      ask.place = "parked";
      parked.push(ask);
      return true;
    },

    unpark(): void {
      const [first, ...rest] = parked;
      if (first === undefined) return;
      const best = rest.reduce((best, ask) => (isMoreUrgent(ask, best) ? ask : best), first);
      parked = parked.filter((ask) => ask !== best);
      best.place = "hand";
      hand.push(best);
    },

    nextDueMs(): number | undefined {
      const times = [...hand, ...parked].map((ask) => ask.deadlineMs);
      if (queue.earliestDeadlineMs !== undefined) times.push(queue.earliestDeadlineMs);
      return times.length === 0 ? undefined : Math.min(...times);
    },
  };
}

function isMoreUrgent(a: Ask, b: Ask): boolean {
  const [rankA, rankB] = [loadClasses.indexOf(a.loadClass), loadClasses.indexOf(b.loadClass)];
  if (rankA !== rankB) return rankA < rankB;
  if (a.priority !== b.priority) return higherPriority(a.priority, b.priority) === a.priority;
  return a.deadlineMs < b.deadlineMs;
}
