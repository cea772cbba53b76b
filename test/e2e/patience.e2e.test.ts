// A model whose inferences take long: the gateway is asked for the first few of them, and for its hits no more.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { openSlowPod, type SlowPod } from "../harness/slowpod.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;
let pod: SlowPod;

before(async () => {
  fleet = await openFleet({ pods: 1 });
  pod = await openSlowPod(fleet, "slow-0");
});

after(async () => {
  await pod?.[Symbol.asyncDispose]();
  await fleet?.[Symbol.asyncDispose]();
});

const call = (): Promise<Response> => fetch(`${fleet.restUrl}/v2/models/slow/infer`, { method: "POST", body: "{}" });

const whenAsked = (count: number): Promise<number> =>
  waitUntil(
    "the pod is asked",
    () => pod.asked.length,
    (length) => length === count,
  );

test("hits that take longer than two seconds run no JavaScript once the gateway has seen a few", async () => {
  await fleet.register("slow", "file:///slow", "slow");
  const first = call();
  await whenAsked(1);
  pod.asked.splice(0)[0]?.end("{}");
  assert.equal((await first).status, 200);

  const { reroutes } = await fleet.stats();
  const calls = Array.from({ length: 3 }, call);
  await whenAsked(3);
  await waitUntil(
    "the gateway is asked for them",
    () => fleet.stats(),
    (stats) => stats.reroutes === reroutes + 3,
  );
  for (const response of pod.asked.splice(0)) response.end("{}");
  for (const answer of await Promise.all(calls)) assert.equal(answer.status, 200);
  // The routes of the set with the shortest patience, which misses come by, and those of the model.
  await waitUntil(
    "Envoy knows routes with more patience",
    () => fleet.envoyConfig("dynamic_route_configs"),
    (config) => config.includes('"per_try_timeout": "16s"') && config.includes('"per_try_timeout": "2s"'),
  );
  await waitUntil(
    "the model has them",
    () => fleet.envoyConfig("dynamic_scoped_route_configs"),
    (config) => /"route_configuration_name": "mix-/.test(config),
  );

  const before = await fleet.stats();
  const slow = call();
  await whenAsked(1);
  await sleep(4_000);
  pod.asked.splice(0)[0]?.end("{}");
  assert.equal((await slow).status, 200);
  const { javascriptRequests } = await fleet.stats();
  assert.equal(javascriptRequests, before.javascriptRequests, "JavaScript ran for a hit");
});
