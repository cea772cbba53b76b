import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createLoadQueue, type LoadClass, type LoadEntry, type LoadQueue, loadClasses, type NewLoad } from "./loadqueue.ts";
import { type Priority, priorities } from "./model.ts";

type Entry = LoadEntry<string, number>;

const options = { maxEntries: 5, agedAfterMs: 10, agedTurnEvery: 3 };

/** The same contract on a sorted array. */
function createNaiveQueue({
  maxEntries,
  agedAfterMs,
  agedTurnEvery,
}: typeof options): Pick<LoadQueue<string, number>, "add" | "next" | "expire" | "remove"> & { all(): Entry[] } {
  // In order of arrival.
  let entries: Entry[] = [];
  let passedOver = 0;
  const rank = (entry: { loadClass: LoadClass }): number => loadClasses.indexOf(entry.loadClass);
  const better = (entry: { priority: Priority }): number => priorities.indexOf(entry.priority);
  const inOrder = (): Entry[] =>
    entries.toSorted((a, b) => rank(a) - rank(b) || better(a) - better(b) || a.deadlineMs - b.deadlineMs);
  const remove = (key: string): Entry | undefined => {
    const found = entries.find((entry) => entry.key === key);
    entries = entries.filter((entry) => entry !== found);
    return found;
  };
  const expire = (nowMs: number): Entry[] => {
    const expired = entries.filter((entry) => entry.deadlineMs <= nowMs).toSorted((a, b) => a.deadlineMs - b.deadlineMs);
    entries = entries.filter((entry) => entry.deadlineMs > nowMs);
    return expired;
  };
  return {
    all: inOrder,
    remove,
    expire,
    add(load, nowMs) {
      const expired = expire(nowMs);
      const there = entries.find((entry) => entry.key === load.key);
      if (there !== undefined) {
        const loadClass = loadClasses[Math.min(rank(there), rank(load))]!;
        const priority = priorities[Math.min(better(there), better({ priority: load.priority ?? "normal" }))]!;
        const entry = { ...there, loadClass, priority, deadlineMs: Math.max(there.deadlineMs, load.deadlineMs) };
        entries = entries.map((old) => (old === there ? entry : old));
        return { kind: "joined", entry, expired };
      }
      if (load.deadlineMs <= nowMs) return { kind: "too-late", expired };
      let dropped: Entry | undefined;
      if (entries.length === maxEntries) {
        const last = inOrder().at(-1)!;
        if (["waiting-user", "ensure"].includes(last.loadClass) || rank(load) >= rank(last))
          return { kind: "queue-full", expired };
        dropped = remove(last.key);
      }
      entries.push({ priority: "normal", ...load, addedMs: nowMs });
      return { kind: "queued", dropped, expired };
    },
    next(nowMs) {
      const expired = expire(nowMs);
      const oldest = entries[0];
      if (oldest === undefined) return { entry: undefined, expired };
      const turn = passedOver >= agedTurnEvery - 1 && nowMs - oldest.addedMs >= agedAfterMs;
      const chosen = turn ? oldest : inOrder()[0]!;
      passedOver = chosen === oldest ? 0 : passedOver + 1;
      return { entry: remove(chosen.key), expired };
    },
  };
}

const key = fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h");
const loadClass = fc.constantFrom(...loadClasses);
const command = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("add" as const),
      key,
      loadClass,
      priority: fc.constantFrom(...priorities),
      waitMs: fc.integer({ min: -1, max: 40 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("next" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("expire" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("remove" as const), key }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(12) }) },
);

test("behaves like a sorted array", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 120, size: "max" }), (commands) => {
      const queue = createLoadQueue<string, number>(options);
      const naive = createNaiveQueue(options);
      let nowMs = 0;
      for (const [value, step] of commands.entries()) {
        if (step.do === "wait") nowMs += step.ms;
        else if (step.do === "next") assert.deepEqual(queue.next(nowMs), naive.next(nowMs));
        else if (step.do === "expire") assert.deepEqual(queue.expire(nowMs), naive.expire(nowMs));
        else if (step.do === "remove") assert.deepEqual(queue.remove(step.key), naive.remove(step.key));
        else {
          const { loadClass, priority } = step;
          const load = { key: step.key, value, loadClass, priority, deadlineMs: nowMs + step.waitMs };
          assert.deepEqual(queue.add(load, nowMs), naive.add(load, nowMs));
        }
        const all = naive.all();
        assert.equal(queue.size, all.length);
        assert.deepEqual(
          queue.sizes,
          Object.fromEntries(loadClasses.map((one) => [one, all.filter((entry) => entry.loadClass === one).length])),
        );
        assert.equal(queue.earliestDeadlineMs, all.length === 0 ? undefined : Math.min(...all.map((entry) => entry.deadlineMs)));
        for (const entry of all) assert.deepEqual(queue.get(entry.key), entry);
      }
    }),
    { numRuns: 300 },
  );
});

const farMs = 1e9;

test("every entry is taken within the promised number of takes, however many urgent ones keep coming", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(loadClass, fc.nat(1_000)), { minLength: 1, maxLength: 12 }),
      fc.array(fc.tuple(loadClass, fc.nat(1_000)), { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 1, max: 5 }),
      fc.nat(60),
      fc.integer({ min: 1, max: 7 }),
      (first, storm, agedTurnEvery, agedAfterMs, takeEveryMs) => {
        const queue = createLoadQueue<string, number>({ maxEntries: 10_000, agedAfterMs, agedTurnEvery });
        // A far deadline, so that nothing leaves but by being taken; the storm's are all earlier.
        for (const [at, [one, ms]] of first.entries()) queue.add(load(`first-${at}`, one, farMs + ms), 0);
        const left = new Set(first.map((_, at) => `first-${at}`));
        let nowMs = 0;
        let takesSinceAged = 0;
        let arrived = 0;
        while (left.size > 0) {
          // More arrive than are taken, and all more urgent within their class.
          for (const [one, ms] of storm) queue.add(load(`storm-${arrived++}`, one, farMs / 2 + ms), nowMs);
          nowMs += takeEveryMs;
          if (nowMs >= agedAfterMs) takesSinceAged++;
          const taken = queue.next(nowMs).entry;
          if (taken !== undefined) left.delete(taken.key);
          for (const waiting of left) {
            const older = Number(waiting.slice("first-".length));
            assert.ok(takesSinceAged < agedTurnEvery * (older + 1), `${waiting} still waits after ${takesSinceAged} takes`);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
});

function load(key: string, loadClass: LoadClass, deadlineMs = 1_000): NewLoad<string, number> {
  return { key, value: 0, loadClass, deadlineMs };
}

function createQueue(change: Partial<typeof options> = {}): LoadQueue<string, number> {
  return createLoadQueue<string, number>({ ...options, agedAfterMs: 1e6, ...change });
}

function drain(queue: LoadQueue<string, number>): string[] {
  const keys: string[] = [];
  for (let { entry } = queue.next(0); entry !== undefined; { entry } = queue.next(0)) keys.push(entry.key);
  return keys;
}

test("classes first, then deadlines, then arrival", () => {
  const queue = createQueue({ maxEntries: 9 });
  for (const one of loadClasses.toReversed()) queue.add(load(one, one), 0);
  queue.add(load("user-late", "waiting-user", 2_000), 0);
  queue.add(load("user-soon", "waiting-user", 500), 0);
  queue.add(load("user-same", "waiting-user", 1_000), 0);
  assert.deepEqual(drain(queue), [
    "user-soon",
    "waiting-user",
    "user-same",
    "user-late",
    "ensure",
    "scale-up",
    "migrate",
    "proactive",
  ]);
});

test("a waiting user raises a background load; a later background call lowers nothing", () => {
  const queue = createQueue();
  queue.add(load("a", "ensure"), 0);
  queue.add({ ...load("b", "proactive", 100), value: 1 }, 1);
  const joined = queue.add({ ...load("b", "waiting-user", 50), value: 2 }, 2);
  assert.deepEqual(joined, {
    kind: "joined",
    entry: { key: "b", value: 1, loadClass: "waiting-user", priority: "normal", deadlineMs: 100, addedMs: 1 },
    expired: [],
  });
  assert.equal(queue.add(load("b", "migrate", 70), 3).kind, "joined");
  assert.deepEqual(drain(queue), ["b", "a"]);
});

test("a full queue drops the last background entry for a higher class only", () => {
  const queue = createQueue({ maxEntries: 3 });
  queue.add(load("user", "waiting-user"), 0);
  queue.add(load("soon", "proactive", 500), 0);
  queue.add(load("late", "proactive", 900), 0);
  assert.deepEqual(queue.add(load("x", "proactive", 100), 0), { kind: "queue-full", expired: [] });
  const added = queue.add(load("grow", "scale-up"), 0);
  assert.equal(added.kind === "queued" && added.dropped?.key, "late");
  queue.add(load("sure", "ensure"), 0);
  queue.add(load("user2", "waiting-user"), 0);
  assert.equal(queue.get("grow"), undefined, "scale-up is background work too");
  assert.deepEqual(queue.add(load("user3", "waiting-user"), 0), { kind: "queue-full", expired: [] }, "ensure is not");
  assert.deepEqual(drain(queue), ["user", "user2", "sure"]);
});

test("past the deadline an entry leaves with whichever call comes first, and makes room", () => {
  const queue = createQueue({ maxEntries: 1 });
  queue.add(load("a", "waiting-user", 10), 0);
  const added = queue.add(load("b", "ensure", 20), 10);
  assert.deepEqual([added.kind, added.expired.map((entry) => entry.key)], ["queued", ["a"]]);
  const taken = queue.next(20);
  assert.deepEqual([taken.entry, taken.expired.map((entry) => entry.key)], [undefined, ["b"]]);
  assert.deepEqual(queue.add(load("c", "ensure", 20), 20), { kind: "too-late", expired: [] });
  assert.deepEqual(queue.expire(99), []);
});

test("nonsense is a fault", () => {
  assert.throws(() => createQueue({ maxEntries: 0 }), RangeError);
  assert.throws(() => createQueue({ agedTurnEvery: 0 }), RangeError);
  assert.throws(() => createQueue().add(load("a", "ensure", Number.POSITIVE_INFINITY), 0), RangeError);
  assert.throws(() => createQueue().add(load("a", "ensure"), Number.NaN), RangeError);
});
