// Nothing is lost: every fault that `npm run bench -- faults` makes, once each, under checked traffic. No request fails.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { faults } from "../../bench/faults/list.ts";
import { runFault } from "../../bench/faults/run.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";

let fleet: TestFleet;

before(async () => {
  fleet = await openFleet();
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
});

for (const fault of faults) {
  test(`${fault.what}: no request fails`, async () => {
    const { sums, broken } = await runFault(fault, fleet, 1, new AbortController().signal);
    const told = `${JSON.stringify(sums, undefined, 2)}\n--- gateway\n${await fleet.tail("gateway")}`;
    assert.equal(broken, undefined, told);
    assert.equal(sums.failed, 0, told);
    assert.ok(sums.requests > 500 && sums.hits > 0, told);
  });
}
