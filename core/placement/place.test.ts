import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { errorCatalogue } from "../errors.ts";
import { judges } from "./filters.ts";
import { describePlacement, type Placement, place } from "./place.ts";
import { compareRanks, type Ranked } from "./rank.ts";
import type { PlacementRequest, PodView } from "./request.ts";
import { podView as pod, placementRequest as request } from "./testing.ts";

function outcome(placement: Placement): string {
  return placement.kind === "placed" ? placement.podId : placement.code;
}

const full = { usedBytes: 100 };

test("the better pod wins, by the first key that differs", () => {
  const table: [string, Partial<PodView>, Partial<PodView>, Partial<PlacementRequest>?][] = [
    ["room before cache age", { queued: 9 }, { ...full, oldestIdleMs: 1e9 }],
    ["room before preferred labels", {}, { ...full, labels: { gpu: "yes" } }, { preferredLabels: { gpu: "yes" } }],
    ["preferred labels before queue", { labels: { gpu: "yes" }, queued: 9 }, {}, { preferredLabels: { gpu: "yes" } }],
    ["older cache", { ...full, oldestIdleMs: 100_000, queued: 9 }, { ...full, oldestIdleMs: 20_000 }],
    [
      "with caches of about the same age, the shorter queue",
      { ...full, oldestIdleMs: 9_000 },
      { ...full, oldestIdleMs: 11_000, queued: 1 },
    ],
    ["shorter queue", { queued: 1, loading: 1, requestsPerSecond: 900 }, { queued: 0, loading: 3 }],
    ["lower load", { requestsPerSecond: 10 }, { requestsPerSecond: 100 }],
    ["room to the last byte", { usedBytes: 90 }, { usedBytes: 91, oldestIdleMs: 1e9 }],
  ];
  for (const [what, better, worse, change] of table) {
    for (const [first, second] of [
      ["a", "b"],
      ["b", "a"],
    ] as const) {
      const pods = [pod(first, better), pod(second, worse)];
      assert.equal(outcome(place(request(change), pods, 0)), first, what);
    }
  }
});

test("another copy goes to another node, then to another zone", () => {
  const pods = [
    pod("holder", { node: "n1", zone: "z1" }),
    pod("same-node", { node: "n1", zone: "z1" }),
    pod("same-zone", { node: "n2", zone: "z1", requestsPerSecond: 0 }),
    pod("elsewhere", { node: "n3", zone: "z2", requestsPerSecond: 500 }),
  ];
  const second = request({ holders: new Set(["holder"]) });
  assert.equal(outcome(place(second, pods, 0)), "elsewhere");
  assert.equal(outcome(place(second, pods.slice(0, 3), 0)), "same-zone");
  assert.equal(outcome(place(second, pods.slice(0, 2), 0)), "same-node");
  const crowdedZone = [
    pod("h1", { node: "n1", zone: "z1" }),
    pod("h2", { node: "n2", zone: "z2" }),
    pod("h3", { node: "n3", zone: "z2" }),
    pod("on-n1", { node: "n1", zone: "z1" }),
    pod("in-z2", { node: "n4", zone: "z2" }),
  ];
  const fourth = request({ holders: new Set(["h1", "h2", "h3"]) });
  assert.equal(outcome(place(fourth, crowdedZone, 0)), "in-z2", "a shared node is worse than a shared zone");
});

test("each judge refuses with its reason, and its code when nobody gets further", () => {
  const failed = new Map([["p", { reason: "the load failed: out of memory", untilMs: 100 }]]);
  const table: [string, string, Partial<PodView>, Partial<PlacementRequest>, RegExp][] = [
    ["runtime", "no-runtime", {}, { runtime: "triton" }, /its runtime is onnx, not triton/],
    ["format", "no-runtime", {}, { format: "sklearn" }, /does not serve the format sklearn/],
    ["labels", "no-runtime", { labels: { a: "2" } }, { requiredLabels: { a: "1" } }, /lacks the label a=1/],
    ["labels", "no-runtime", {}, { requiredLabels: { toString: "x" } }, /lacks the label toString=x/],
    ["capacity", "no-capacity", {}, { sizeBytes: 101 }, /its 100 bytes cannot hold 101/],
    ["reachable", "no-pods", { reachable: false }, {}, /cannot be reached/],
    ["draining", "no-pods", { draining: true }, {}, /draining/],
    ["excluded", "pod-failed", {}, { excluded: failed }, /^the load failed: out of memory$/],
    ["holding", "no-capacity", {}, { holders: new Set(["p"]) }, /a copy already/],
    ["anti-thrash", "no-capacity", { ...full, oldestIdleMs: 5 }, { waitingUser: false }, /used 5 ms ago, less than 60000/],
  ];
  for (const [judge, code, view, change, reason] of table) {
    const placement = place(request(change), [pod("p", view)], 99);
    assert.equal(outcome(placement), code);
    const [verdict] = placement.explanation.pods;
    assert.ok(verdict?.kind === "refused");
    assert.equal(verdict.judge, judge);
    assert.match(verdict.reason, reason);
  }
  assert.deepEqual(
    new Set(table.map(([judge]) => judge)),
    new Set(judges.map(({ name }) => name)),
    "every judge is in the table",
  );
  assert.equal(outcome(place(request({ excluded: failed }), [pod("p")], 100)), "p", "an exclusion ends");
  assert.equal(outcome(place(request({ waitingUser: false }), [pod("p", { ...full, oldestIdleMs: 60_000 })], 0)), "p");
});

test("the code names what the pod that got furthest lacks", () => {
  const wrongRuntime = pod("w", { runtime: "triton" });
  const down = pod("d", { reachable: false });
  assert.equal(outcome(place(request(), [], 0)), "no-pods");
  assert.equal(outcome(place(request({ runtime: "onnx" }), [wrongRuntime], 0)), "no-runtime");
  assert.equal(outcome(place(request({ runtime: "onnx" }), [wrongRuntime, down], 0)), "no-pods");
  for (const { code } of judges) assert.ok(Object.hasOwn(errorCatalogue, code));
});

test("a placement is described in one line", () => {
  assert.equal(
    describePlacement(place(request(), [pod("a"), pod("b", { draining: true })], 0)),
    "a for iris: 2 pods (1 fit, 1 draining)",
  );
  assert.equal(describePlacement(place(request(), [], 0)), "nowhere for iris: 0 pods");
});

const someId = fc.constantFrom("p0", "p1", "p2", "p3", "p4", "p5");
const somePod = fc.record({
  podId: someId,
  runtime: fc.constantFrom("onnx", "onnx", "triton"),
  formats: fc.constantFrom(["onnx"], ["onnx", "sklearn"], []),
  labels: fc.constantFrom({}, { gpu: "yes" }, { gpu: "no" }),
  capacityBytes: fc.constantFrom(50, 100),
  usedBytes: fc.nat(100),
  queued: fc.nat(2),
  loading: fc.nat(2),
  oldestIdleMs: fc.constantFrom(0, 900, 50_000, 70_000, 4e6),
  draining: fc.boolean(),
  reachable: fc.boolean(),
  requestsPerSecond: fc.double({ min: 0, max: 1e6, noNaN: true }),
  zone: fc.constantFrom("z1", "z2", undefined),
  node: fc.constantFrom("n1", "n2", undefined),
});
const somePods = fc.uniqueArray(somePod, { selector: (one) => one.podId, maxLength: 6 });
const someRequest = fc.record({
  model: fc.constantFrom("iris", "wine", "digits"),
  revision: fc.constant("r1"),
  format: fc.constantFrom("onnx", "sklearn"),
  runtime: fc.constantFrom("onnx", undefined),
  sizeBytes: fc.nat(110),
  requiredLabels: fc.constantFrom({}, { gpu: "yes" }),
  preferredLabels: fc.constantFrom({}, { gpu: "no" }),
  excluded: fc
    .array(fc.tuple(someId, fc.record({ reason: fc.constant("failed"), untilMs: fc.nat(2) })), { maxLength: 2 })
    .map((all) => new Map(all)),
  holders: fc.array(someId, { maxLength: 2 }).map((ids) => new Set(ids)),
  waitingUser: fc.boolean(),
  minAgeMs: fc.constant(60_000),
});

test("the pod chosen is the best that nothing speaks against, whatever the order they come in", () => {
  fc.assert(
    fc.property(someRequest, somePods, (wanted, pods) => {
      const placement = place(wanted, pods, 1);
      assert.equal(outcome(place(wanted, pods.toReversed(), 1)), outcome(placement));
      assert.deepEqual(
        placement.explanation.pods.map(({ podId }) => podId),
        pods.map(({ podId }) => podId),
      );
      const fits = pods.filter(
        (one) =>
          one.reachable &&
          !one.draining &&
          (wanted.runtime === undefined || one.runtime === wanted.runtime) &&
          one.formats.some((format) => format === wanted.format) &&
          (!("gpu" in wanted.requiredLabels) || ("gpu" in one.labels && one.labels.gpu === "yes")) &&
          one.capacityBytes >= wanted.sizeBytes &&
          !wanted.holders.has(one.podId) &&
          (wanted.excluded.get(one.podId)?.untilMs ?? 0) <= 1 &&
          (wanted.waitingUser || one.oldestIdleMs >= 60_000 || one.capacityBytes - one.usedBytes >= wanted.sizeBytes),
      );
      const ranked = placement.explanation.pods.filter((verdict) => verdict.kind === "ranked");
      assert.deepEqual(
        ranked.map(({ podId }) => podId),
        fits.map(({ podId }) => podId),
      );
      assert.equal(placement.kind, fits.length > 0 ? "placed" : "nowhere");
      if (placement.kind === "placed") assert.equal(placement.podId, ranked.toSorted(compareRanks)[0]?.podId);
      assert.ok(ranked.every(({ keys }) => Object.values(keys).every(Number.isFinite)));
    }),
    { numRuns: 1_000 },
  );
});

test("rank is a strict total order", () => {
  fc.assert(
    fc.property(someRequest, fc.uniqueArray(somePod, { selector: (one) => one.podId, minLength: 3 }), (wanted, pods) => {
      const open = {
        ...wanted,
        waitingUser: true,
        runtime: undefined,
        requiredLabels: {},
        holders: new Set<string>(),
        sizeBytes: 1,
      };
      const easy = pods.map((one) => ({ ...one, formats: [wanted.format], reachable: true, draining: false }));
      const verdicts = place({ ...open, excluded: new Map() }, easy, 0).explanation.pods;
      const ranked: Ranked[] = verdicts.filter((verdict) => verdict.kind === "ranked");
      assert.equal(ranked.length, pods.length);
      for (const a of ranked) {
        assert.equal(compareRanks(a, a), 0);
        for (const b of ranked) {
          if (a !== b) assert.ok(compareRanks(a, b) !== 0);
          assert.equal(Math.sign(compareRanks(a, b)), 0 - Math.sign(compareRanks(b, a)));
          for (const c of ranked) if (compareRanks(a, b) < 0 && compareRanks(b, c) < 0) assert.ok(compareRanks(a, c) < 0);
        }
      }
    }),
  );
});

test("a burst of misses over equal pods spreads evenly", () => {
  const pods = Array.from({ length: 10 }, (_, at) => pod(`pod-${at}`, { ...full, oldestIdleMs: 50_000 + at * 100 }));
  const counts = new Map<string, number>();
  for (let at = 0; at < 2_000; at++) {
    const chosen = outcome(place(request({ model: `tenant-${at}.iris` }), pods, 0));
    counts.set(chosen, (counts.get(chosen) ?? 0) + 1);
  }
  for (const { podId } of pods) assert.ok(Math.abs((counts.get(podId) ?? 0) - 200) < 60, `${podId}: ${counts.get(podId)}`);
});
