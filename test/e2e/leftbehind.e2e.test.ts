// A model server is killed, and what it leaves behind (the processes of its backends, which have inherited its sockets) holds
// its connections open and says nothing on them. The next one under the same address is asked over connections of its own.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { openSlowPod, type SlowPod } from "../harness/slowpod.ts";

const atOnce = 8;

let fleet: TestFleet;

before(async () => {
  fleet = await openFleet({ pods: 1 });
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
});

const call = (): Promise<Response> => fetch(`${fleet.restUrl}/v2/models/slow/infer`, { method: "POST", body: "{}" });

/** As many connections as requests, since none of these is answered before all are there. */
async function callAll(pod: SlowPod): Promise<void> {
  const calls = Array.from({ length: atOnce }, call);
  await pod.whenAsked(atOnce);
  for (const response of pod.asked.splice(0)) response.end("{}");
  const answers = await Promise.all(calls);
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  await Promise.all(answers.map((answer) => answer.text()));
}

test("connections to a model server that is lost are used for nothing any more, though they are open", async () => {
  await using pod = await openSlowPod(fleet, "slow-0");
  await fleet.register("slow", "file:///slow", "slow");
  for (let life = 0; life < 3; life++) {
    await callAll(pod);
    // Warm now: these go by the set's own connections.
    await callAll(pod);
    const under = call();
    await pod.whenAsked(1);
    const { reroutes } = await fleet.stats();
    pod.loseServer();
    // What was under way there is sent to the next one when it has been silent for long enough.
    await pod.whenAsked(1);
    assert.ok((await fleet.stats()).reroutes > reroutes, "the gateway was not asked for it");
    pod.asked.splice(0)[0]?.end("{}");
    assert.equal((await under).status, 200);
  }
  await callAll(pod);
  assert.equal(pod.unheard, 0);
});
