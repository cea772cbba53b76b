import assert from "node:assert/strict";
import { test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
import { createRates } from "./rates.ts";
import { createReports } from "./reports.ts";

test("what was answered and what was refused are both demand, and neither counts twice", () => {
  const clock = createManualClock();
  const rates = createRates(clock);
  const reports = createReports({ home: { of: () => undefined }, peers: { report: () => assert.fail() }, rates, clock });
  for (let second = 0; second < 60; second++) {
    for (let request = 0; request < 3; request++) reports.missed("x");
    const lastUsedMs = clock.monotonicMs();
    reports.send(new Map([["x", { requests: 7, answered: 7, waited: 0, busyMs: 0, weight: 1, lastUsedMs }]]));
    clock.advance(1_000);
    Array.from(rates.take());
  }
  assert.ok(Math.abs((rates.rateOf("x") ?? 0) - 10) < 0.1, `${rates.rateOf("x")}`);
});
