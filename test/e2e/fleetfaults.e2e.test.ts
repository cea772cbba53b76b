// Every fault of a fleet of three gateways over a real etcd, once and shorter than the benchmark makes it: no request fails.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fleetFaults } from "../../bench/fleetfaults/list.ts";
import { type FaultFleet, openFaultFleet, runFleetFault } from "../../bench/fleetfaults/run.ts";

const stack = new AsyncDisposableStack();
let fleet: FaultFleet;

before(async () => {
  fleet = await openFaultFleet(stack);
});

after(() => stack.disposeAsync());

for (const fault of fleetFaults) {
  test(`${fault.name}: ${fault.what}`, async () => {
    const { sums, broken } = await runFleetFault(fault, fleet, {
      requests: 300,
      share: 0.1,
      signal: AbortSignal.timeout(200_000),
    });
    const seen = `${JSON.stringify(sums)}\n${broken ?? ""}`;
    assert.equal(broken, undefined, seen);
    assert.equal(sums.failed, 0, seen);
    assert.equal(sums.refused, 0, seen);
  });
}
