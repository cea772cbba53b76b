import assert from "node:assert/strict";
import { test } from "node:test";
import { hitBenchmark, summarise } from "./hit.ts";
import type { LoadResult } from "./load/plan.ts";

function result(requests: number, envoyNs: number, p50Ms = 1): LoadResult {
  const times = { p50Ms, p99Ms: 2, quantilesMs: [], steps: [] };
  return { requests, failed: 0, reasons: [], seconds: 2, ...times, cpuNs: [envoyNs, 10_000, 30_000], ownCpuNs: 0 };
}

const same = { hit: [result(100, 1e6)], static: [result(100, 1e6)], direct: [result(100, 0)] };

test("processor time is divided by the requests of its own round, and the ratio taken round by round", () => {
  const busy = {
    // 150, 300 and 30 us: a noisy second round meets both paths.
    hit: [result(100, 15e6), result(50, 15e6), result(100, 3e6)],
    static: [result(100, 10e6), result(50, 10e6), result(100, 1e6)],
    direct: [result(100, 0)],
  };
  const figures = summarise(busy, same, same);
  assert.equal(figures["envoyCpuRatio"], 1.5);
  assert.deepEqual([figures["envoyCpuRatioLow"], figures["envoyCpuRatioHigh"]], [1.5, 3]);
  assert.equal(figures["envoyCpuHitUs"], 150);
  assert.equal(figures["envoyCpuStaticUs"], 100);
  assert.equal(figures["hitRps"], 50);
  assert.equal(figures["modelServerCpuUs"], 0.3);
  assert.equal(figures["grpcEnvoyCpuRatio"], 1);
});

test("every figure is explained, and every explanation has its figure", () => {
  const others = ["javascriptRequests", "models", "rounds"];
  assert.deepEqual([...Object.keys(summarise(same, same, same)), ...others].sort(), Object.keys(hitBenchmark.figures).sort());
});
