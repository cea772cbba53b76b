import assert from "node:assert/strict";
import { test } from "node:test";
import { parseStats } from "./envoyadmin.ts";

test("counters and gauges are read; histograms and texts are passed over", () => {
  const text = "a.b: 3\nc.d_e: 0\nh.time: P0(nan,1.0) P25(nan,2.0)\nserver.version_text: v1\n\n";
  assert.deepEqual(
    [...parseStats(text)],
    [
      ["a.b", 3],
      ["c.d_e", 0],
    ],
  );
});
