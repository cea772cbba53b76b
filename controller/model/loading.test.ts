// The first loads of models, over a gateway that answers by script.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createManualClock, type ManualClock } from "#platform/clock.ts";
import { waitFor } from "#platform/testing.ts";
import type { Loaded } from "../gateway.ts";
import { createFirstLoads, type FirstLoads } from "./loading.ts";

interface Setup {
  readonly loads: FirstLoads;
  readonly clock: ManualClock;
  readonly asked: string[];
  readonly ended: string[];
  /** Answers the oldest load that is under way. */
  answer(result: Loaded): Promise<void>;
}

function setup(maxAtOnce = 32): Setup {
  const clock = createManualClock();
  const asked: string[] = [];
  const ended: string[] = [];
  const waiting: PromiseWithResolvers<Loaded>[] = [];
  const loads = createFirstLoads({
    gateway: {
      async load(name) {
        asked.push(name);
        const asking = Promise.withResolvers<Loaded>();
        waiting.push(asking);
        return await asking.promise;
      },
    },
    clock,
    onEnd: (name) => void ended.push(name),
    maxAtOnce,
  });
  return {
    loads,
    clock,
    asked,
    ended,
    async answer(result) {
      const before = ended.length;
      waiting.shift()?.resolve(result);
      await waitFor(() => ended.length > before);
    },
  };
}

const failed = (code: Extract<Loaded, { kind: "failed" }>["code"], reason = "why"): Loaded => ({
  kind: "failed",
  code,
  reason,
  retryAfterMs: undefined,
});

describe("a first load", () => {
  test("is asked for once, and tells its end", async () => {
    const { loads, asked, ended, answer } = setup();
    loads.want("m", "r1");
    loads.want("m", "r1");
    assert.deepEqual(asked, ["m"]);
    await answer({ kind: "live" });
    assert.equal(loads.isLoaded("m", "r1"), true);
    assert.equal(loads.isLoaded("m", "r2"), false);
    assert.deepEqual(ended, ["m"]);
    loads.want("m", "r1");
    assert.deepEqual(asked, ["m"]);
  });

  test("that fails says why, and is tried again later and later", async () => {
    const { loads, asked, clock, answer } = setup();
    loads.want("m", "r1");
    for (const pauseMs of [5_000, 10_000, 20_000]) {
      await answer(failed("model-load-failed"));
      assert.equal(loads.failure("m", "r1")?.reason, "why");
      assert.equal(loads.retryInMs("m", "r1"), pauseMs);
      const before = asked.length;
      loads.want("m", "r1");
      assert.equal(asked.length, before);
      clock.advance(pauseMs);
      loads.want("m", "r1");
      assert.equal(asked.length, before + 1);
    }
    await answer({ kind: "live" });
    assert.equal(loads.failure("m", "r1"), undefined);
  });

  test("for which there are no pods yet is tried again soon, however often", async () => {
    const { loads, clock, answer } = setup();
    loads.want("m", "r1");
    for (let time = 0; time < 5; time++) {
      await answer(failed("no-pods"));
      assert.equal(loads.retryInMs("m", "r1"), 2_000);
      clock.advance(2_000);
      loads.want("m", "r1");
    }
  });

  test("of which the gateway has not heard yet has not failed, and is tried again at once", async () => {
    const { loads, clock, asked, answer } = setup();
    loads.want("m", "r1");
    await answer(failed("model-not-found", "no model 'm' is registered"));
    assert.equal(loads.failure("m", "r1"), undefined);
    assert.equal(loads.retryInMs("m", "r1"), 500);
    clock.advance(500);
    loads.want("m", "r1");
    assert.deepEqual(asked, ["m", "m"]);
    await answer(failed("model-load-failed"));
    // The first pause of a failure: what came before was none.
    assert.equal(loads.retryInMs("m", "r1"), 5_000);
  });

  test("waits for its turn when as many are under way as may be", async () => {
    const { loads, asked, answer } = setup(1);
    loads.want("a", "r1");
    loads.want("b", "r1");
    assert.deepEqual(asked, ["a"]);
    assert.equal(loads.underWay, 2);
    await answer({ kind: "live" });
    assert.deepEqual(asked, ["a", "b"]);
  });
});
