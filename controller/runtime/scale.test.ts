// How many pods a runtime is to have: each rule by itself, and a simulated runtime whose number must settle.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { PodSeen } from "../gateway.ts";
import type { Scaling } from "./runtime.ts";
import { type ReplicasSeen, replicasOf, type ScalePolicy, type ScaleSeen, type ScaleState, scaleRuntime } from "./scale.ts";

const policy: ScalePolicy = { least: 1, most: 6, sleeps: false, graceMs: 60_000, idleMs: 600_000, calmMs: 300_000 };
const gib = 2 ** 30;

function pod(about: Partial<PodSeen> = {}): PodSeen {
  return {
    podId: "pod",
    runtime: "onnx",
    reachable: true,
    draining: false,
    requestsPerSecond: 1,
    queued: 0,
    loading: 0,
    capacityBytes: gib,
    usedBytes: gib / 4,
    oldestIdleMs: 600_000,
    evictions: 0,
    ...about,
  };
}
const tight: Partial<PodSeen> = { usedBytes: gib * 0.95, oldestIdleMs: 20_000, evictions: 9 };

const at = (nowMs: number, pods: readonly PodSeen[], about: Partial<ScaleSeen> = {}): ScaleSeen => ({
  models: 3,
  pods,
  wokenAtMs: undefined,
  nowMs,
  ...about,
});
const running = (pods: number, about: Partial<ScaleState> = {}): ScaleState => ({
  pods,
  usedAtMs: 0,
  busyAtMs: 0,
  evictions: 0,
  evictedAtMs: Number.NEGATIVE_INFINITY,
  grownAtMs: 0,
  pressedAtMs: 0,
  ...about,
});
const many = (count: number, about: Partial<PodSeen> = {}): readonly PodSeen[] => Array.from({ length: count }, () => pod(about));

describe("pods that a runtime is to have", () => {
  const cases: readonly (readonly [string, Partial<ScalePolicy>, ScaleState | undefined, ScaleSeen, number, RegExp])[] = [
    ["no model, never seen before", {}, undefined, at(0, [], { models: 0 }), 0, /no model/],
    [
      "asleep, and its last model goes",
      { sleeps: true },
      running(0, { usedAtMs: 99_000 }),
      at(100_000, [], { models: 0 }),
      0,
      /no model/,
    ],
    [
      "asleep, and its last model goes while a request waits for it",
      { sleeps: true },
      running(0, { usedAtMs: 99_000 }),
      at(100_000, [], { models: 0, wokenAtMs: 99_500 }),
      0,
      /no model/,
    ],
    ["the first model", {}, running(0, { usedAtMs: undefined }), at(1_000, []), 1, /models can use it/],
    ["as many as it is to have at least", { least: 3 }, running(0), at(1_000, []), 3, /models/],
    ["its last model went just now", {}, running(2, { usedAtMs: 50_000 }), at(100_000, [], { models: 0 }), 2, /in use/],
    ["its last model went a while ago", {}, running(2, { usedAtMs: 30_000 }), at(100_000, [], { models: 0 }), 0, /no model/],
    ["never to zero", { graceMs: Number.POSITIVE_INFINITY }, running(1), at(1e9, [], { models: 0 }), 1, /in use/],
    [
      "idle, and may sleep",
      { sleeps: true },
      running(2),
      at(600_000, many(2, { requestsPerSecond: 0 })),
      0,
      /no request for 10 min/,
    ],
    ["idle, and may not", {}, running(1), at(600_000, many(1, { requestsPerSecond: 0 })), 1, /in use/],
    ["a request wakes it", { sleeps: true }, running(0), at(900_000, [], { wokenAtMs: 899_990 }), 1, /a request waits/],
    [
      "a request that waits for a pod keeps it awake, however soon it is to sleep",
      { sleeps: true, idleMs: 5_000 },
      { ...running(1), busyAtMs: 880_000 },
      at(900_000, [], { wokenAtMs: 893_000 }),
      1,
      /in use/,
    ],
    [
      "and not for long once it does not",
      { sleeps: true, idleMs: 5_000 },
      { ...running(1), busyAtMs: 880_000 },
      at(900_000, [], { wokenAtMs: 885_000 }),
      0,
      /no request/,
    ],
    ["a mark from long ago wakes nothing", { sleeps: true }, running(0), at(900_000, [], { wokenAtMs: 1_000 }), 0, /no request/],
    ["loads queue", {}, running(2), at(100_000, many(2, { queued: 5 })), 3, /10 loads wait for 2 pods/],
    ["every pod is full of what is in use", {}, running(2), at(100_000, many(2, tight)), 3, /every pod is full/],
    [
      "full of what is in use, and nothing is evicted",
      {},
      running(2, { evictions: 18 }),
      at(100_000, many(2, tight)),
      2,
      /in use/,
    ],
    ["one pod of two is", {}, running(2), at(100_000, [pod(tight), pod()]), 2, /in use/],
    ["the last one has had no time to help", {}, running(2, { grownAtMs: 90_000 }), at(100_000, many(2, tight)), 2, /full/],
    ["the last one is not up yet", {}, running(3), at(100_000, many(2, tight)), 3, /full/],
    ["the last one never comes up", {}, running(3), at(300_000, many(2, tight)), 4, /full/],
    ["no more than its most", {}, running(6), at(100_000, many(6, tight)), 6, /full/],
    ["calm for too short a time", {}, running(2, { pressedAtMs: 100_000 }), at(300_000, many(2)), 2, /in use/],
    ["calm", {}, running(2), at(300_000, many(2)), 1, /calm/],
    ["calm, and at its least", {}, running(1), at(900_000, many(1)), 1, /in use/],
    [
      "calm, but one less would not hold what is in use",
      {},
      running(2),
      at(300_000, many(2, { usedBytes: gib * 0.8, oldestIdleMs: 100_000 })),
      2,
      /in use/,
    ],
    [
      "calm, and what one less would not hold is not in use",
      {},
      running(2),
      at(300_000, many(2, { usedBytes: gib, oldestIdleMs: 3_600_000, evictions: 9 })),
      1,
      /calm/,
    ],
    ["what does not answer presses nobody", {}, running(2), at(100_000, many(2, { ...tight, reachable: false })), 2, /in use/],
  ];
  for (const [what, change, state, seen, pods, why] of cases) {
    test(`${what}: ${pods}`, () => {
      const { wanted, state: next } = scaleRuntime({ ...policy, ...change }, state, seen);
      assert.equal(wanted.pods, pods);
      assert.equal(next.pods, pods);
      assert.match(wanted.why, why);
    });
  }

  const handed: readonly (readonly [string, Scaling, number, Partial<ReplicasSeen>, number | undefined])[] = [
    ["its own rules alone", "own", 2, { replicas: 5, setByOthers: true }, 2],
    ["an HPA that has set a number", "hpa", 2, { replicas: 5, setByOthers: true }, undefined],
    ["an HPA that has not yet: the number stays", "hpa", 2, { replicas: 3 }, 3],
    ["an HPA, and no Deployment yet", "hpa", 2, {}, 2],
    ["an HPA does nothing at zero", "hpa", 2, { replicas: 0, setByOthers: true }, 2],
    ["an HPA keeps no pods that nobody can use", "hpa", 0, { replicas: 5, setByOthers: true }, 0],
    ["another autoscaler that has set a number", "external", 2, { replicas: 5, setByOthers: true }, undefined],
    ["it is not taken to zero", "external", 0, { replicas: 5, setByOthers: true }, undefined],
    ["it has not set one yet: the number stays", "external", 2, { replicas: 3 }, 3],
    ["it begins with a pod, even without models", "external", 0, {}, 1],
    ["it may want none", "external", 2, { replicas: 0, setByOthers: true }, undefined],
    ["it wants none, but a request waits", "external", 2, { replicas: 0, setByOthers: true, awaited: true }, 2],
    ["asleep when it took over", "external", 2, { replicas: 0 }, 2],
  ];
  for (const [what, scaling, pods, seen, replicas] of handed) {
    test(`${what}: ${replicas ?? "left alone"}`, () => {
      const all = { replicas: undefined, setByOthers: false, awaited: false, ...seen };
      assert.equal(replicasOf(scaling, { pods, why: "" }, all), replicas);
    });
  }

  test("pressure that goes on at its most, and stops for a moment, takes nothing away", () => {
    let state: ScaleState | undefined = running(6);
    for (let nowMs = 5_000; nowMs <= 900_000; nowMs += 5_000) {
      ({ state } = scaleRuntime(policy, state, at(nowMs, many(6, { ...tight, evictions: nowMs }))));
    }
    const { wanted } = scaleRuntime(policy, state, at(905_000, many(6, { usedBytes: 0 })));
    assert.equal(wanted.pods, 6);
  });
});

/** Models of one size in pods that share them evenly, each evicting what was used longest ago; a new pod takes a while. */
function simulate(seed: number, phases: readonly { readonly models: number; readonly minutes: number }[]): readonly number[] {
  const tickMs = 5_000;
  const perPod = 40;
  const loadsPerTick = 20;
  const startMs = 30_000;
  const random = mulberry(seed);
  /** Model -> when it was used; the oldest first. */
  const held = new Map<number, number>();
  const counts: number[] = [];
  let state: ScaleState | undefined;
  let up = 0;
  let coming: number[] = [];
  let evictions = 0;
  let queue = 0;
  let nowMs = 0;
  for (const { models, minutes } of phases) {
    for (let tick = 0; tick < (minutes * 60_000) / tickMs; tick++) {
      nowMs += tickMs;
      let misses = 0;
      for (let request = 0; request < 100; request++) {
        const model = Math.floor(random() * models);
        if (!held.delete(model)) misses += 1;
        held.set(model, nowMs);
        for (const oldest of held.keys()) {
          if (held.size <= up * perPod) break;
          held.delete(oldest);
          evictions += 1;
        }
      }
      queue = Math.max(0, queue + misses - Math.max(1, up) * loadsPerTick);
      queue = Math.min(queue, 200);
      const [oldest = nowMs] = held.values();
      const pods = many(up, {
        queued: Math.ceil(queue / Math.max(1, up)),
        usedBytes: (held.size / Math.max(1, up * perPod)) * gib,
        oldestIdleMs: nowMs - oldest,
        evictions,
      });
      ({ state } = scaleRuntime(policy, state, at(nowMs, pods)));
      up += coming.filter((readyAtMs) => readyAtMs <= nowMs).length;
      coming = coming.filter((readyAtMs) => readyAtMs > nowMs);
      while (up + coming.length < state.pods) coming.push(nowMs + startMs);
      while (up + coming.length > state.pods && coming.length > 0) coming.pop();
      up = Math.min(up, state.pods);
      counts.push(state.pods);
    }
  }
  return counts;
}

function mulberry(seed: number): () => number {
  let at = seed;
  return () => {
    at = (at + 0x6d2b79f5) | 0;
    let mixed = Math.imul(at ^ (at >>> 15), 1 | at);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe("a simulated runtime", () => {
  for (let seed = 1; seed <= 20; seed++) {
    test(`seed ${seed}: up with the models in use, down with them, no swing between`, () => {
      const busy = 50 + seed * 10;
      const counts = simulate(seed, [
        { models: 20, minutes: 60 },
        { models: busy, minutes: 180 },
        { models: 20, minutes: 180 },
      ]);
      assert.ok(counts.every((count) => count >= policy.least && count <= policy.most));
      const grown = counts[2_800] ?? 0;
      assert.ok(grown * 40 >= Math.min(busy, policy.most * 40) * 0.9, `${grown} pods for ${busy} models`);
      assert.equal(counts.at(-1), policy.least);
      // The loads of the start may ask for more; after that each phase finds its number and stays there.
      const hour = 720;
      for (const end of [4 * hour, 7 * hour]) {
        const settled = new Set(counts.slice(end - hour, end));
        assert.equal(settled.size, 1, `it swings between ${[...settled].join(" and ")}`);
      }
      const steps = counts.map((count, tick) => count - (counts[tick - 1] ?? count)).filter((step) => step !== 0);
      const turns = steps.filter((step, place) => place > 0 && step !== steps[place - 1]).length;
      assert.ok(turns <= 3, `it turns ${turns} times`);
    });
  }
});
