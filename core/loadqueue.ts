// Owns the order in which a pod takes up loads: bounded, by class, by deadline, and nothing starves.
//
// Order: class, then priority, then the earlier deadline, then the earlier arrival. A total order, so equal histories give
// equal results.
// Ageing: an entry has aged when it has waited `agedAfterMs` since it was first added. Of every `agedTurnEvery` takes in
// a row, at least one takes the longest-waiting entry, if that has aged. So an entry with k others before it in order of
// arrival is taken at the latest with take number agedTurnEvery * (k + 1) after it has aged, whatever else arrives.
// Deadline: an entry leaves at its deadline. Every call that is given the time first lets go of all that is past it and
// hands those entries back, so none is lost, served late or counted as taking up room.
// Bound: a full queue refuses, unless the new entry's class is higher than that of the last entry in order and that one
// is background work (scale-up, migrate, proactive): then this is dropped and handed back.
//
// Invariants: every queued entry is in all three heaps and in `nodes`, whose order is that of arrival.
// O(log n) per operation and entry handed back; the longest-waiting entry is found in O(1).
import { createHeap, type HeapNode } from "./heap.ts";
import { type Priority, priorities } from "./model.ts";

/** A load may take so long at most, and a request wait for its model: an hour less the time to say so. */
export const longestLoadMs = 3_500_000;

/** From the most urgent to the least. */
export const loadClasses = ["waiting-user", "ensure", "scale-up", "migrate", "proactive"] as const;

export type LoadClass = (typeof loadClasses)[number];

export interface LoadEntry<K, V> {
  readonly key: K;
  readonly value: V;
  readonly loadClass: LoadClass;
  /** Among those of its class. */
  readonly priority: Priority;
  readonly deadlineMs: number;
  /** When the key was first added. */
  readonly addedMs: number;
}

export interface LoadQueueOptions {
  readonly maxEntries: number;
  readonly agedAfterMs: number;
  /** 1 takes every aged entry in order of arrival; the larger, the less ageing costs urgent loads. */
  readonly agedTurnEvery: number;
}

/** Entries past their deadline that left the queue with this call. */
interface Expired<K, V> {
  readonly expired: readonly LoadEntry<K, V>[];
}

export type AddOutcome<K, V> = Expired<K, V> &
  (
    | { readonly kind: "queued"; readonly dropped: LoadEntry<K, V> | undefined }
    /** The key was there: the entry as it is now, with the higher class and priority, the later deadline and the value it came with first. */
    | { readonly kind: "joined"; readonly entry: LoadEntry<K, V> }
    | { readonly kind: "queue-full" }
    /** Its deadline has passed already. */
    | { readonly kind: "too-late" }
  );

export interface LoadQueue<K, V> {
  readonly size: number;
  /** Queued entries by class, all classes present. */
  readonly sizes: Readonly<Record<LoadClass, number>>;
  /** When expire has something to do next; undefined when empty. */
  readonly earliestDeadlineMs: number | undefined;
  get(key: K): LoadEntry<K, V> | undefined;
  add(load: NewLoad<K, V>, nowMs: number): AddOutcome<K, V>;
  /** Takes the entry whose turn it is out of the queue. */
  next(nowMs: number): Expired<K, V> & { readonly entry: LoadEntry<K, V> | undefined };
  /** Takes out all entries whose deadline is `nowMs` or earlier, the earliest deadline first. */
  expire(nowMs: number): readonly LoadEntry<K, V>[];
  remove(key: K): LoadEntry<K, V> | undefined;
}

/** Of normal priority when it says none. */
export type NewLoad<K, V> = Omit<LoadEntry<K, V>, "addedMs" | "priority"> & { readonly priority?: Priority };

interface Queued<K, V> extends LoadEntry<K, V> {
  readonly rank: number;
  readonly sequence: number;
}

interface Nodes<K, V> {
  readonly forward: HeapNode<Queued<K, V>>;
  readonly backward: HeapNode<Queued<K, V>>;
  readonly byDeadline: HeapNode<Queued<K, V>>;
}

const firstBackgroundRank = loadClasses.indexOf("scale-up");

export function createLoadQueue<K, V>(options: LoadQueueOptions): LoadQueue<K, V> {
  const { maxEntries, agedAfterMs, agedTurnEvery } = options;
  if (!Number.isInteger(maxEntries) || maxEntries < 1) throw new RangeError("maxEntries must be a whole number from 1");
  if (!Number.isInteger(agedTurnEvery) || agedTurnEvery < 1) throw new RangeError("agedTurnEvery must be a whole number from 1");

  const nodes = new Map<K, Nodes<K, V>>();
  const forward = createHeap<Queued<K, V>>(goesBefore);
  const backward = createHeap<Queued<K, V>>((a, b) => goesBefore(b, a));
  const byDeadline = createHeap<Queued<K, V>>((a, b) =>
    a.deadlineMs === b.deadlineMs ? a.sequence < b.sequence : a.deadlineMs < b.deadlineMs,
  );
  const sizes: Record<LoadClass, number> = { "waiting-user": 0, ensure: 0, "scale-up": 0, migrate: 0, proactive: 0 };
  let nextSequence = 0;
  // Takes since the longest-waiting entry was last taken.
  let passedOver = 0;

  const insert = (entry: Queued<K, V>): void => {
    nodes.set(entry.key, { forward: forward.push(entry), backward: backward.push(entry), byDeadline: byDeadline.push(entry) });
    sizes[entry.loadClass]++;
  };

  const remove = (key: K): LoadEntry<K, V> | undefined => {
    const found = nodes.get(key);
    if (found === undefined) return undefined;
    nodes.delete(key);
    forward.remove(found.forward);
    backward.remove(found.backward);
    byDeadline.remove(found.byDeadline);
    sizes[found.forward.value.loadClass]--;
    return publicEntry(found.forward.value);
  };

  const replace = (found: Nodes<K, V>, entry: Queued<K, V>): void => {
    sizes[found.forward.value.loadClass]--;
    sizes[entry.loadClass]++;
    found.forward.value = entry;
    found.backward.value = entry;
    found.byDeadline.value = entry;
    forward.moved(found.forward);
    backward.moved(found.backward);
    byDeadline.moved(found.byDeadline);
  };

  const expire = (nowMs: number): readonly LoadEntry<K, V>[] => {
    const expired: LoadEntry<K, V>[] = [];
    for (let first = byDeadline.first(); first !== undefined && first.value.deadlineMs <= nowMs; first = byDeadline.first()) {
      const entry = remove(first.value.key);
      if (entry !== undefined) expired.push(entry);
    }
    return expired;
  };

  const longestWaiting = (): Queued<K, V> | undefined => {
    for (const found of nodes.values()) return found.forward.value;
    return undefined;
  };

  return {
    get size(): number {
      return nodes.size;
    },

    get sizes(): Readonly<Record<LoadClass, number>> {
      return { ...sizes };
    },

    get earliestDeadlineMs(): number | undefined {
      return byDeadline.first()?.value.deadlineMs;
    },

    get(key): LoadEntry<K, V> | undefined {
      const found = nodes.get(key);
      return found === undefined ? undefined : publicEntry(found.forward.value);
    },

    add(load, nowMs): AddOutcome<K, V> {
      // A deadline that never comes would be a wait without end.
      if (!Number.isFinite(load.deadlineMs) || !Number.isFinite(nowMs)) throw new RangeError("deadline and time must be finite");
      const expired = expire(nowMs);
      const rank = loadClasses.indexOf(load.loadClass);
      const found = nodes.get(load.key);
      if (found !== undefined) {
        const old = found.forward.value;
        const higher = rank < old.rank ? { loadClass: load.loadClass, rank } : {};
        const priority = higherPriority(old.priority, load.priority ?? "normal");
        const entry = { ...old, ...higher, priority, deadlineMs: Math.max(old.deadlineMs, load.deadlineMs) };
        replace(found, entry);
        return { kind: "joined", entry: publicEntry(entry), expired };
      }
      if (load.deadlineMs <= nowMs) return { kind: "too-late", expired };
      let dropped: LoadEntry<K, V> | undefined;
      if (nodes.size >= maxEntries) {
        const last = backward.first()?.value;
        if (last === undefined || last.rank < firstBackgroundRank || last.rank <= rank) return { kind: "queue-full", expired };
        dropped = remove(last.key);
      }
      const { key, value, loadClass, priority = "normal", deadlineMs } = load;
      insert({ key, value, loadClass, priority, deadlineMs, addedMs: nowMs, rank, sequence: nextSequence++ });
      return { kind: "queued", dropped, expired };
    },

    next(nowMs): Expired<K, V> & { readonly entry: LoadEntry<K, V> | undefined } {
      const expired = expire(nowMs);
      const longest = longestWaiting();
      const first = forward.first()?.value;
      if (longest === undefined || first === undefined) return { entry: undefined, expired };
      const agedTurn = passedOver + 1 >= agedTurnEvery && nowMs - longest.addedMs >= agedAfterMs;
      const chosen = agedTurn ? longest : first;
      passedOver = chosen === longest ? 0 : passedOver + 1;
      return { entry: remove(chosen.key), expired };
    },

    expire,
    remove,
  };
}

function goesBefore<K, V>(a: Queued<K, V>, b: Queued<K, V>): boolean {
  if (a.rank !== b.rank) return a.rank < b.rank;
  if (a.priority !== b.priority) return higherPriority(a.priority, b.priority) === a.priority;
  if (a.deadlineMs !== b.deadlineMs) return a.deadlineMs < b.deadlineMs;
  return a.sequence < b.sequence;
}

export function higherPriority(one: Priority, other: Priority): Priority {
  return priorities.indexOf(one) <= priorities.indexOf(other) ? one : other;
}

function publicEntry<K, V>({ key, value, loadClass, priority, deadlineMs, addedMs }: Queued<K, V>): LoadEntry<K, V> {
  return { key, value, loadClass, priority, deadlineMs, addedMs };
}
