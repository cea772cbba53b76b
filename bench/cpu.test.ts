import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSchedstat, parseStat, readCpuNs } from "./cpu.ts";

test("the running time is the first number of schedstat", () => {
  assert.equal(parseSchedstat("890973 63244 2\n"), 890_973);
  assert.throws(() => parseSchedstat(""));
});

test("utime and stime are found whatever the process is called", () => {
  const text = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 100 1 1";
  assert.equal(parseStat(text), 12 * 10_000_000);
  assert.throws(() => parseStat("nothing"));
});

test("work shows in the processor time of this process", () => {
  const before = readCpuNs(process.pid);
  const untilMs = performance.now() + 20;
  while (performance.now() < untilMs);
  assert.ok(readCpuNs(process.pid) > before);
});
