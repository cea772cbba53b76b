// A whole fleet is replaced pod by pod under traffic, as a rolling update does it: each pod is asked to stop, empties, ends, and
// another takes its place. No request fails, and no model that is in use has to be loaded for a request again.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { z } from "zod";
import { pidOf } from "../../bench/faults/fault.ts";
import { startFaultTraffic } from "../../bench/faults/traffic.ts";
import { loadsForRequests } from "../harness/decisions.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";

const pods = 3;
const inUse = 90;
const podAnswer = z.object({ copies: z.number() });
let fleet: TestFleet;

before(async () => {
  fleet = await openFleet({ pods, gateways: 2 });
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
});

async function copiesOf(pod: number): Promise<number> {
  const { status, json } = await fleet.manage("GET", `/api/v1/pods/pod-${pod}`);
  return status === 404 ? 0 : podAnswer.parse(json).copies;
}

test("every pod is replaced: no request fails, nothing in use is loaded for a request again", { timeout: 200_000 }, async () => {
  const { signal } = new AbortController();
  const { models: all } = fleet.oracle;
  const models = all.filter((_, at) => at % Math.floor(all.length / inUse) === 0);
  await using traffic = startFaultTraffic(fleet, { models, zipfExponent: 0, signal });
  await waitUntil(
    "all models in use are warm",
    async () => (await fleet.stats()).warm,
    (warm) => warm >= models.length,
    60_000,
  );
  await traffic.more(1_000);
  const startedMs = Date.now();
  for (let pod = 0; pod < pods; pod++) {
    assert.ok((await copiesOf(pod)) > 0, `pod-${pod} holds nothing that could be lost`);
    const adapter = fleet.process(`pod-${pod}-adapter`);
    const server = fleet.process(`pod-${pod}-server`);
    const restarts = { adapter: adapter.restarts, server: server.restarts };
    const serverPid = pidOf(fleet, `pod-${pod}-server`);
    process.kill(pidOf(fleet, `pod-${pod}-adapter`), "SIGTERM");
    await waitUntil(
      `pod-${pod} is empty`,
      () => copiesOf(pod),
      (copies) => copies === 0,
      90_000,
    );
    // Its model server goes with it, as in a pod of Kubernetes.
    process.kill(serverPid, "SIGKILL");
    await waitUntil(
      "another one has come",
      () => ({ adapters: adapter.restarts, servers: server.restarts, states: [adapter.state.kind, server.state.kind] }),
      ({ adapters, servers, states }) =>
        adapters > restarts.adapter && servers > restarts.server && states.every((state) => state === "ready"),
      60_000,
    );
    await fleet.whenServing();
    await traffic.more(500);
  }
  await traffic.stop();
  const { sums } = traffic;
  assert.equal(sums.failed, 0, JSON.stringify(sums, undefined, 2));
  const loads = await Promise.all(models.map((model) => loadsForRequests(fleet, model, startedMs)));
  assert.deepEqual(loads.flat(), []);
  assert.ok((await loadsForRequests(fleet, models[0] ?? "", 0)).length > 0, "the first load is told of, so later ones would be");
});
