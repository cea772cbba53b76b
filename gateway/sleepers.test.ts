import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { createSleepers } from "./sleepers.ts";

function build(pods: { readonly runtime: string; readonly reachable: boolean }[] = []) {
  const clock = createManualClock();
  const woken: string[] = [];
  const fleet = {
    pods: () => pods.map(({ runtime, reachable }) => ({ info: { runtime }, reachable })).values(),
  } as unknown as Parameters<typeof createSleepers>[0]["fleet"];
  const sleepers = createSleepers({ fleet, clock, log: silentLog, wake: async (runtime) => void woken.push(runtime) });
  return { clock, woken, sleepers, pods };
}

describe("requests of a runtime without pods", () => {
  test("wait when the registry names it, and it is asked for once in a while", () => {
    const { clock, woken, sleepers } = build();
    sleepers.set("a", { name: "a", sleeps: true, asleep: true });
    for (let at = 0; at < 100; at++) assert.equal(sleepers.awaits({ runtime: "a" }), true);
    assert.deepEqual(woken, ["a"]);
    clock.advance(5_000);
    assert.equal(sleepers.awaits({ runtime: "a" }), true);
    assert.deepEqual(woken, ["a", "a"]);
  });

  test("do not wait for a runtime that nobody knows, for one that is gone, or for none", () => {
    const { woken, sleepers } = build();
    assert.equal(sleepers.awaits({ runtime: "a" }), false);
    assert.equal(sleepers.awaits({}), false);
    sleepers.set("a", { name: "a", sleeps: true, asleep: true });
    sleepers.set("a", undefined);
    assert.equal(sleepers.awaits({ runtime: "a" }), false);
    assert.deepEqual(woken, []);
  });

  test("do not wait while a pod of it is up, whatever it refuses", () => {
    const { woken, sleepers, pods } = build([{ runtime: "a", reachable: true }]);
    sleepers.set("a", { name: "a", sleeps: true, asleep: false });
    assert.equal(sleepers.awaits({ runtime: "a" }), false);
    pods[0] = { runtime: "a", reachable: false };
    assert.equal(sleepers.awaits({ runtime: "a" }), true);
    assert.deepEqual(woken, ["a"]);
  });
});
