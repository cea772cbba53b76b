import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { createManualClock } from "#platform/clock.ts";
import { createTracer } from "#platform/telemetry.ts";
import { createMissSpans, type MissRecord } from "./spans.ts";

async function recordOf(
  work: (miss: ReturnType<ReturnType<typeof createMissSpans>["start"]>, pass: (ms: number) => void) => void,
) {
  const clock = createManualClock();
  const records: MissRecord[] = [];
  await using owned = await createTracer({ service: "gateway" });
  const spans = createMissSpans({ tracer: owned.tracer, clock, onRecord: (record) => void records.push(record) });
  const miss = spans.start("miss", new Metadata(), new Map());
  work(miss, (ms) => clock.advance(ms));
  miss.end();
  return (records[0]?.steps ?? []).map(({ name, depth, fromMs, toMs }) => [name, depth, fromMs, toMs]);
}

test("what a pod says of its time counts, not when a busy gateway hears of it", async () => {
  const steps = await recordOf((miss, pass) => {
    const ask = miss.step("park").step("ask", { pod: "pod-0" });
    // Nothing was read meanwhile: that it began to load is heard of together with its end.
    pass(1_000);
    ask.mark("loading");
    const parts = { queue: 100, pull: 600, turn: 0, load: 200, measure: 10 };
    ask.divide(
      (["queue", "pull", "turn", "load", "measure"] as const).map((name) => ({ name, ms: parts[name] })),
      { pod: "pod-0" },
    );
    ask.end();
  });
  assert.deepEqual(steps, [
    ["park", 0, 0, undefined],
    ["ask", 1, 0, 1_000],
    ["queue", 2, 90, 190],
    ["pull", 2, 190, 790],
    ["load", 2, 790, 990],
    ["measure", 2, 990, 1_000],
  ]);
});

test("a queue that is older than the request counts from when the request came", async () => {
  const steps = await recordOf((miss, pass) => {
    pass(5);
    const ask = miss.step("ask");
    pass(50);
    ask.divide(
      [
        { name: "queue", ms: 60_000 },
        { name: "pull", ms: 20 },
        { name: "load", ms: 10 },
      ],
      {},
    );
    ask.end();
  });
  assert.deepEqual(steps, [
    ["ask", 0, 5, 55],
    ["queue", 1, 5, 25],
    ["pull", 1, 25, 45],
    ["load", 1, 45, 55],
  ]);
});
