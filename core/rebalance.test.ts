import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { array, assert as assertProperty, integer, property } from "fast-check";
import type { PlacementRequest, PodView } from "./placement/request.ts";
import { placementRequest, podView } from "./placement/testing.ts";
import { type CopyUse, chooseMoves, type Evenness, even, defaultRebalancePolicy as policy, watchEvenness } from "./rebalance.ts";

function pod(podId: string, requestsPerSecond: number, more: Partial<PodView> = {}): PodView {
  return podView(podId, { capacityBytes: 1_000, requestsPerSecond, ...more });
}

function use(
  model: string,
  requestsPerSecond: number,
  holders: readonly string[],
  more: Partial<PlacementRequest> = {},
): CopyUse {
  const about = { model, holders: new Set(holders), waitingUser: false, requestsPerSecond, minAgeMs: 1_800_000, ...more };
  return { requestsPerSecond, request: placementRequest(about) };
}

const uneven: Evenness = { unevenSinceMs: 0, moving: false };
const moving: Evenness = { unevenSinceMs: 0, moving: true };

describe("whether pods are even", () => {
  for (const { name, rates, before = even, nowMs = policy.holdMs, expected } of [
    { name: "one pod is", rates: [500], expected: even },
    { name: "pods that do the same are", rates: [200, 202, 198], expected: even },
    { name: "a gap of a few requests is none", rates: [0, 49], before: moving, expected: even },
    {
      name: "a pod far above the mean is crowded: since now",
      rates: [200, 40],
      expected: { unevenSinceMs: 15_000, moving: false },
    },
    { name: "a new pod does nothing", rates: [200, 200, 200, 0], expected: { unevenSinceMs: 15_000, moving: false } },
    { name: "so for a while, copies move", rates: [200, 40], before: uneven, expected: moving },
    { name: "not so soon", rates: [200, 40], before: uneven, nowMs: 14_999, expected: uneven },
    { name: "an even moment begins it anew", rates: [200, 180], before: uneven, expected: even },
    { name: "between the bands nothing begins", rates: [200, 120], expected: even },
    { name: "and nothing ends", rates: [200, 120], before: moving, expected: moving },
    { name: "within the narrow band it is over", rates: [200, 180], before: moving, expected: even },
  ]) {
    test(name, () => {
      const pods = rates.map((rate, at) => pod(`p${at}`, rate));
      assert.deepEqual(watchEvenness(pods, before, policy, nowMs), expected);
    });
  }

  test("pods that are going or gone do not count", () => {
    const pods = [pod("a", 200), pod("b", 0, { draining: true }), pod("c", 0, { reachable: false })];
    assert.deepEqual(watchEvenness(pods, moving, policy, 0), even);
  });
});

describe("what moves", () => {
  const on = (byPod: Readonly<Record<string, readonly CopyUse[]>>) => (podId: string) => byPod[podId] ?? [];
  const short = (moves: ReturnType<typeof chooseMoves>): readonly string[] =>
    moves.map(({ model, from, to }) => `${model} ${from}>${to}`);

  test("the busiest copies that bring no pod over the mean", () => {
    const copies = on({ a: [use("m60", 60, ["a"]), use("m30", 30, ["a"]), use("m8", 8, ["a"]), use("m2", 2, ["a"])] });
    assert.deepEqual(short(chooseMoves([pod("a", 100), pod("b", 0)], copies, policy, 0)), ["m30 a>b", "m8 a>b", "m2 a>b"]);
  });

  test("nothing that is hardly used, nothing to where it is already, nothing where loads wait", () => {
    const copies = on({ a: [use("idle", 0.5, ["a"]), use("both", 20, ["a", "b"])] });
    assert.deepEqual(chooseMoves([pod("a", 100), pod("b", 0)], copies, policy, 0), []);
    const one = on({ a: [use("m", 20, ["a"])] });
    assert.deepEqual(chooseMoves([pod("a", 100), pod("b", 0, { queued: 1 })], one, policy, 0), []);
  });

  test("only where it may be and fits, without what was used lately leaving", () => {
    const full = pod("b", 0, { usedBytes: 995, oldestIdleMs: 60_000 });
    const copies = on({ a: [use("m", 20, ["a"]), use("n", 10, ["a"], { requiredLabels: { gpu: "yes" } })] });
    assert.deepEqual(chooseMoves([pod("a", 100), full], copies, policy, 0), []);
    const pods = [pod("a", 100), pod("b", 0), pod("c", 10, { labels: { gpu: "yes" } })];
    assert.deepEqual(short(chooseMoves(pods, copies, policy, 0)), ["m a>b", "n a>c"]);
    const almost = pod("b", 0, { usedBytes: 985 });
    const two = on({ a: [use("m", 20, ["a"]), use("n", 10, ["a"])] });
    assert.deepEqual(short(chooseMoves([pod("a", 100), almost], two, policy, 0)), ["m a>b"], "the room is given once");
  });

  test("of a model one copy at a time, also when two of its pods do too much", () => {
    const both = ["a", "b"];
    const copies = on({ a: [use("m", 20, both), use("n", 5, ["a"])], b: [use("m", 20, both)] });
    const pods = [pod("a", 100), pod("b", 90), pod("c", 0), pod("d", 0)];
    assert.deepEqual(
      short(chooseMoves(pods, copies, policy, 0)).map((move) => move.split(">")[0]),
      ["m a", "n a"],
    );
  });

  test("a bounded number at a time", () => {
    const copies = on({ a: Array.from({ length: 100 }, (_, at) => use(`m${at}`, 1, ["a"])) });
    assert.equal(chooseMoves([pod("a", 100), pod("b", 0)], copies, policy, 0).length, policy.perRound);
  });

  test("whatever pods and copies there are: no pod crosses the mean, and they are nearer to each other than before", () => {
    const pods = array(array(integer({ min: 0, max: 200 }), { maxLength: 12 }), { minLength: 2, maxLength: 8 });
    assertProperty(
      property(pods, (held) => {
        const rates = held.map((copies) => copies.reduce((total, rate) => total + rate, 0));
        const mean = rates.reduce((total, rate) => total + rate, 0) / rates.length;
        const views = rates.map((rate, at) => pod(`p${at}`, rate));
        const copiesOn = (podId: string): CopyUse[] =>
          (held[Number(podId.slice(1))] ?? []).map((rate, at) => use(`${podId}-${at}`, rate, [podId]));
        const after = [...rates];
        for (const { model, from, to } of chooseMoves(views, copiesOn, policy, 0)) {
          const [fromAt, toAt] = [Number(from.slice(1)), Number(to.slice(1))];
          const rate = held[fromAt]?.[Number(model.split("-")[1])] ?? 0;
          after[fromAt] = (after[fromAt] ?? 0) - rate;
          after[toAt] = (after[toAt] ?? 0) + rate;
        }
        const spread = (all: readonly number[]): number => all.reduce((total, rate) => total + (rate - mean) ** 2, 0);
        for (const [at, rate] of after.entries()) assert.ok((rate - mean) * ((rates[at] ?? 0) - mean) >= -1e-6);
        assert.ok(spread(after) <= spread(rates) + 1e-6);
        assert.deepEqual(chooseMoves([...views].reverse(), copiesOn, policy, 0), chooseMoves(views, copiesOn, policy, 0));
      }),
    );
  });
});
