// A pod that comes new is filled ahead of demand: what was used lately and went with another pod is there before anybody asks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { killAndAwait } from "../../bench/faults/fault.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;

before(async () => {
  fleet = await openFleet({ pods: 1 });
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
});

test("a pod dies, and the next one has what was in use before it is asked for", { timeout: 200_000 }, async () => {
  const { models: all } = fleet.oracle;
  const models = all.filter((_, at) => at % Math.floor(all.length / 40) === 0).slice(0, 40);
  for (const model of models) await fleet.asker.ask(model, "rest");
  await waitUntil(
    "they are warm",
    async () => (await fleet.stats()).warm,
    (warm) => warm >= models.length,
  );
  // The gateway hears of what was used once a second.
  await waitUntil(
    "hits are counted",
    async () => {
      for (const model of models) await fleet.asker.ask(model, "rest");
      return (await fleet.stats()).hits;
    },
    (hits) => (hits ?? 0) >= models.length,
  );
  await killAndAwait(fleet, ["pod-0-server", "pod-0-adapter"]);
  await fleet.whenServing();
  await waitUntil(
    "the pod is filled",
    async () => (await fleet.stats()).warm,
    (warm) => warm >= models.length,
    60_000,
  );
  const { javascriptRequests } = await fleet.stats();
  const asked = await Promise.all(models.map((model) => fleet.asker.ask(model, "rest")));
  assert.deepEqual(
    asked.filter(({ miss }) => miss),
    [],
  );
  assert.equal((await fleet.stats()).javascriptRequests, javascriptRequests);
});
