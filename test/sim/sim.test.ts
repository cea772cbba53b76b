// A fleet of the size that a test can bear; `npm run bench -- sim` has a thousand pods and a million models.
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { defaultScalingPolicy } from "#core/scaling.ts";
import { countOfflineMisses } from "./belady.ts";
import { type SimReport, simulate } from "./fleet.ts";
import { quantileOf } from "./report.ts";
import { buildTrace, formatTrace, parseTrace, type Trace } from "./trace.ts";

const pods = 20;
const capacityBytes = 1.5e9;
const policy = { ...defaultScalingPolicy, ratePerCopy: 20, secondCopyAfterMs: 60_000, downAfterMs: 30_000 };

describe("a simulated fleet under traffic that drifts, with far more models than fit", { timeout: 300_000 }, () => {
  let trace: Trace;
  let report: SimReport;
  before(() => {
    trace = buildTrace({
      seed: 7,
      models: 5_000,
      durationMs: 150_000,
      requestsPerSecond: 400,
      zipfExponent: 0.9,
      driftEveryMs: 2_000,
    });
    report = simulate(trace, { seed: 7, pods, capacityBytes, policy });
  });

  test("loads no more than twice as often as a cache that knows the future", () => {
    const best = countOfflineMisses(trace, pods * capacityBytes);
    assert.ok(report.misses <= best * 2, `${report.misses} misses, ${best} at best`);
  });

  test("full pods keep their copies for about as long as each other", () => {
    const ages = report.samples.at(-1)?.cacheAgesMs ?? [];
    assert.ok(ages.length > pods / 2, `${ages.length} pods are full`);
    const [low, high] = [quantileOf(ages, 0.1), quantileOf(ages, 0.9)];
    assert.ok(high <= low * 2.5 + 5_000, `${low} to ${high} ms`);
  });

  test("the busiest pods do a few times the work of the usual one, not more", () => {
    const rates = report.samples.at(-1)?.podRates ?? [];
    assert.ok(quantileOf(rates, 0.95) <= 3 * quantileOf(rates, 0.5) + 5, rates.map(Math.round).join(", "));
  });

  test("copies do not come and go: nothing is scaled down that was scaled up just before", () => {
    assert.ok(report.scaledUp > 0);
    assert.equal(report.oscillations, 0);
    assert.ok(report.scaledDown <= report.scaledUp, `${report.scaledDown} down, ${report.scaledUp} up`);
  });

  test("nothing is evicted that need not be: hardly more evictions than loads", () => {
    assert.ok(report.evictions <= (report.misses + report.scaledUp) * 1.2, `${report.evictions} evictions`);
    assert.equal(report.refused, 0);
  });

  test("the same seed gives the same run", () => {
    const short = { ...trace, timesMs: trace.timesMs.slice(0, 5_000), modelIds: trace.modelIds.slice(0, 5_000) };
    const options = { seed: 3, pods: 10, capacityBytes, policy };
    assert.deepEqual(simulate(short, options), simulate(short, options));
  });
});

test("a trace is read as it was written, and a malformed line is named", () => {
  const options = { seed: 1, models: 50, durationMs: 1_000, requestsPerSecond: 100, zipfExponent: 1, driftEveryMs: 100 };
  const trace = buildTrace(options);
  const read = parseTrace(formatTrace(trace));
  assert.deepEqual([read.timesMs, read.modelIds], [trace.timesMs, trace.modelIds]);
  for (const id of new Set(trace.modelIds)) assert.equal(read.sizesBytes[id], trace.sizesBytes[id]);
  const head = '{"format":"warmpath-trace-1","models":2,"durationMs":10}';
  for (const [text, line] of [
    ["{}", 1],
    [`${head}\n1 5 10`, 2],
    [`${head}\n1 0 10\n0 0 10`, 3],
    [`${head}\n1 0 -1`, 2],
    [`${head}\nx 0 1`, 2],
  ] as const) {
    assert.throws(() => parseTrace(text), new RegExp(`line ${line} `), text);
  }
});

test("the offline optimum knows when it pays to keep something", () => {
  const trace = (ids: readonly number[]): Trace => ({
    models: 4,
    durationMs: ids.length,
    timesMs: Float64Array.from(ids, (_, at) => at),
    modelIds: Uint32Array.from(ids),
    sizesBytes: new Float64Array(4).fill(1),
  });
  assert.equal(countOfflineMisses(trace([0, 1, 2, 0, 1, 2]), 3), 3);
  assert.equal(countOfflineMisses(trace([0, 1, 2, 0, 1, 2]), 2), 4, "one of the three is asked for again too late");
  assert.equal(countOfflineMisses(trace([0, 1, 0, 2, 0, 3, 0]), 1), 4, "what comes once is not kept");
});
