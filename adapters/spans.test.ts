import assert from "node:assert/strict";
import { test } from "node:test";
import { createTracer } from "#platform/telemetry.ts";
import { openCollector } from "#test/harness/otlp.ts";
import { createTraceWatch } from "./spans.ts";

const load = { model: "a", revision: "r1", loadClass: "waiting-user", queuedMs: 40, reservedBytes: 1 } as const;

test("the whole of a load belongs to its steps, from its first ask on", async () => {
  await using collector = await openCollector();
  {
    await using owned = await createTracer({ service: "adapter", endpoint: collector.httpEndpoint });
    let nowMs = 1_800_000_000_000;
    const pass = (ms: number): number => (nowMs += ms);
    const watch = createTraceWatch(owned.tracer, "pod-0", () => nowMs);
    const traced = watch.loadStarts({ ...load, traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01` });
    for (const name of ["pull", "turn", "server", "measure"] as const) {
      // Whatever is done between two steps, or keeps the process from going on.
      pass(14);
      const end = traced.step(name);
      pass(20);
      end();
    }
    traced.end({ kind: "ok", sizeBytes: 1 });
    const unwanted = watch.loadStarts({ ...load, traceparent: `00-${"c".repeat(32)}-${"b".repeat(16)}-00` });
    unwanted.step("pull")();
    unwanted.end({ kind: "ok", sizeBytes: 1 });
  }
  assert.deepEqual(
    collector.spans.filter(({ traceId }) => !traceId.startsWith("a")),
    [],
    "nothing is told of a load that is not to be traced",
  );
  const steps = collector.spans.filter(({ name }) => name !== "load").sort((one, other) => one.startMs - other.startMs);
  assert.deepEqual(
    steps.map(({ name, startMs, endMs }) => [name, Math.round(endMs - startMs)]),
    [
      ["queue", 40],
      ["pull", 34],
      ["turn", 34],
      ["server-load", 34],
      ["measure", 34],
    ],
  );
  const whole = collector.spans.find(({ name }) => name === "load") ?? assert.fail();
  assert.equal(steps[0]?.startMs, whole.startMs);
  for (const [at, { startMs }] of steps.entries()) assert.ok(at === 0 || startMs === steps[at - 1]?.endMs);
});
