import assert from "node:assert/strict";
import { test } from "node:test";
import { retryBodyBytes } from "#envoy/retries.ts";
import { createManualClock } from "#platform/clock.ts";
import type { LogEntry } from "./accesslog.ts";
import { createUsage } from "./usage.ts";

function entryOf(path: string, more: Partial<LogEntry> = {}): LogEntry {
  return {
    path,
    requestHeaders: new Map(),
    responseHeaders: new Map(),
    status: 200,
    tookMs: 2,
    requestBytes: 90,
    reachedPod: true,
    ...more,
  };
}

const hit = (model: string): LogEntry => entryOf(`/v2/models/${model}/infer`);

const named: [what: string, entry: LogEntry, model: string | undefined][] = [
  ["a V2 path", entryOf("/v2/models/iris/infer"), "iris"],
  ["a V1 path", entryOf("/v1/models/iris:predict"), "iris"],
  ["a V2 path of a slot", entryOf("/v2/models/iris~12/infer"), "iris"],
  ["a V1 path of a slot", entryOf("/v1/models/iris~1:predict"), "iris"],
  ["a bare path with a query", entryOf("/v2/models/iris?x"), "iris"],
  [
    "a gRPC header",
    entryOf("/inference.GRPCInferenceService/ModelInfer", { requestHeaders: new Map([["x-warm-model", "iris"]]) }),
    "iris",
  ],
  [
    "a gRPC call that has waited",
    entryOf("/p", {
      requestHeaders: new Map([
        ["x-warm-model", "~set-1-s0"],
        ["x-warm-public-name", "iris"],
      ]),
    }),
    "iris",
  ],
  ["nothing", entryOf("/v2"), undefined],
  ["a health check", entryOf("/p", { requestHeaders: new Map([["x-warm-model", "/server"]]) }), undefined],
  ["an answer that no pod gave", entryOf("/v2/models/iris/infer", { reachedPod: false, status: 404 }), undefined],
];

for (const [what, entry, model] of named) {
  test(`${what} is use of ${model}`, () => {
    const usage = createUsage(createManualClock());
    usage.onEntry(entry);
    assert.deepEqual([...usage.take().keys()], model === undefined ? [] : [model]);
    assert.equal(usage.hits, model === undefined ? 0 : 1);
  });
}

test("an answer that says the model is not there is told of where no other pod can have been asked", () => {
  const large = { requestBytes: retryBodyBytes + 1 };
  const marked = { responseHeaders: new Map([["x-warm-not-here", "1"]]) };
  const grpcNotFound = { responseHeaders: new Map([["grpc-status", "5"]]) };
  for (const [more, expected] of [
    [{ ...marked, status: 503 }, true],
    [{ ...large, status: 404 }, true],
    [{ ...large, ...grpcNotFound }, true],
    [large, false],
    [{ status: 404 }, false],
    [grpcNotFound, false],
    [{ ...large, status: 400 }, false],
  ] as [Partial<LogEntry>, boolean][]) {
    const told: boolean[] = [];
    const usage = createUsage(createManualClock(), ({ isAbsence }) => told.push(isAbsence));
    usage.onEntry(entryOf("/v2/models/iris/infer", more));
    assert.deepEqual(told, [expected], JSON.stringify(more));
  }
});

test("a request that waited is use, but no hit", () => {
  const usage = createUsage(createManualClock());
  usage.onEntry(entryOf("/v2/models/iris/infer", { responseHeaders: new Map([["x-warm-load-ms", "3.0"]]) }));
  assert.equal(usage.hits, 0);
  assert.equal(usage.take().get("iris")?.requests, 1);
});

/** Numbers from 0 to 1 that repeat from run to run. */
function createSequence(): () => number {
  let state = 1;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

test("at 20,000 hits a second few are logged, and no busy model looks older than an idle one", () => {
  const clock = createManualClock();
  const usage = createUsage(clock);
  const random = createSequence();
  const busy = Array.from({ length: 200 }, (_, at) => `busy-${at}`);
  const perSecond = 20_000;
  const lastUsedMs = new Map<string, number>();
  let share = 1;
  let logged = 0;
  let estimated = 0;
  for (let second = 0; second < 60; second++) {
    logged = 0;
    for (let tick = 0; tick < 10; tick++) {
      for (let request = 0; request < perSecond / 10; request++) {
        const model = busy[Math.floor(random() * busy.length)]!;
        if (random() >= share) continue;
        logged += 1;
        usage.onEntry(hit(model));
      }
      clock.advance(100);
    }
    estimated = 0;
    for (const [model, use] of usage.take()) {
      lastUsedMs.set(model, use.lastUsedMs);
      estimated += use.requests;
    }
    share = usage.adjust() / 1e6;
  }
  assert.ok(logged <= 400, `${logged} entries in the last second`);
  assert.ok(Math.abs(estimated - perSecond) < perSecond * 0.3, `${estimated} requests estimated of ${perSecond}`);
  // An adapter evicts nothing that was used within 10 s unless it must; an idle model is older than that.
  const oldestBusyMs = Math.max(...busy.map((model) => clock.monotonicMs() - (lastUsedMs.get(model) ?? 0)));
  assert.ok(oldestBusyMs < 10_000, `a busy model looks ${oldestBusyMs} ms old`);
});

test("the share is not lowered again for entries that Envoy logged before it heard of it, nor do those count for more", () => {
  const clock = createManualClock();
  const usage = createUsage(clock);
  const perSecond = 3_200;
  const applied = [1, 1];
  const shares: number[] = [];
  for (let second = 0; second < 20; second++) {
    // Envoy applies what it is told a second later.
    const share = applied.at(-2) ?? 1;
    for (let tick = 0; tick < 10; tick++) {
      for (let at = 0; at < (perSecond / 10) * share; at++) usage.onEntry(hit("iris"));
      clock.advance(100);
    }
    const estimated = usage.take().get("iris")?.requests ?? 0;
    assert.ok(estimated <= perSecond * 1.3, `${estimated} requests of ${perSecond} in second ${second}`);
    applied.push(usage.adjust() / 1e6);
    shares.push(applied.at(-1) ?? 0);
  }
  assert.deepEqual([...new Set(shares)], [1 / 16]);
});

test("the share falls at once and rises step by step", () => {
  const clock = createManualClock();
  const usage = createUsage(clock);
  for (let at = 0; at < 10_000; at++) usage.onEntry(hit("iris"));
  clock.advance(1_000);
  const low = usage.adjust();
  assert.ok(low <= 20_000, `${low}`);
  const shares: number[] = [];
  for (let second = 0; second < 60; second++) {
    clock.advance(1_000);
    shares.push(usage.adjust());
  }
  assert.ok(shares.every((share, at) => at === 0 || share <= (shares[at - 1] ?? 0) * 2));
  assert.equal(shares.at(-1), 1_000_000, "all is logged again where little happens");
});

test("requests that have waited for a load are counted apart, and their time is no work of a copy", () => {
  const usage = createUsage(createManualClock());
  usage.onEntry(hit("iris"));
  usage.onEntry(entryOf("/v2/models/iris/infer", { tookMs: 900, responseHeaders: new Map([["x-warm-load-ms", "800"]]) }));
  const { requests, waited, busyMs } = usage.take().get("iris") ?? assert.fail();
  assert.deepEqual({ requests, waited, busyMs }, { requests: 2, waited: 1, busyMs: 2 });
});
