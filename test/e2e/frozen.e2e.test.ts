// A pod that stands still: it accepts connections and says nothing. What was sent to it is answered by another pod within
// seconds, under traffic; a pod that is only slow keeps its requests, each once.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { openSlowPod } from "../harness/slowpod.ts";
import { startTraffic } from "../harness/traffic.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;
let models: readonly string[];

before(async () => {
  fleet = await openFleet();
  models = fleet.oracle.models.filter((_, at) => at % 40 === 0);
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
});

const frozen: [what: string, names: readonly string[]][] = [
  ["a pod", ["pod-0-server", "pod-0-adapter"]],
  ["a model server whose adapter lives", ["pod-1-server"]],
];

for (const [what, names] of frozen) {
  test(`${what} stands still under traffic: its requests are answered elsewhere, and it serves again afterwards`, async () => {
    const traffic = startTraffic(fleet, { models, concurrency: 8 });
    await traffic.more(200, 60_000);
    const { reroutes } = await fleet.stats();
    const pids = names.map((name) => fleet.process(name).pid!);
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    try {
      // More than clients can hang: so many answers come only when those that hung have been answered by another pod.
      await traffic.more(200, 60_000);
      assert.ok((await fleet.stats()).reroutes > reroutes, "none was rerouted");
    } finally {
      for (const pid of pids) process.kill(pid, "SIGCONT");
    }
    await fleet.whenServing();
    await traffic.more(200, 60_000);
    const report = await traffic.stop();
    const told = `${JSON.stringify(report)}\n${JSON.stringify(traffic.trouble)}\n${await fleet.tail("gateway")}`;
    assert.equal(report.wrong, 0, told);
    assert.equal(traffic.trouble.length, 0, told);
  });
}

const call = (): Promise<Response> => fetch(`${fleet.restUrl}/v2/models/slow/infer`, { method: "POST", body: "{}" });

const whenHedged = async (since: number): Promise<unknown> =>
  waitUntil(
    "the gateway is asked for the request",
    () => fleet.stats(),
    ({ reroutes }) => reroutes > since,
  );

test("a pod that is slow and well keeps its request, and is asked once; given up, it is answered by another", async () => {
  await using first = await openSlowPod(fleet, "slow-0");
  await fleet.register("slow", "file:///slow", "slow");

  const { reroutes } = await fleet.stats();
  const slow = call();
  await first.whenAsked(1);
  await whenHedged(reroutes);
  // As long again as it took the gateway to hear of it: it does not ask the pod anew.
  const other = call();
  await first.whenAsked(2);
  await whenHedged(reroutes + 1);
  assert.equal(first.asked.length, 2, "a request was computed twice");
  for (const response of first.asked.splice(0)) response.end("{}");
  assert.deepEqual([(await slow).status, (await other).status], [200, 200]);

  await using second = await openSlowPod(fleet, "slow-1");
  const stuck = call();
  await first.whenAsked(1);
  await whenHedged(reroutes + 2);
  await first.endAdapter();
  await second.whenAsked(1);
  second.asked[0]?.end("{}");
  const answer = await stuck;
  assert.deepEqual([answer.status, answer.headers.get("x-pod")], [200, "slow-1"]);

  // The pod that it was sent to in place of the first may stand still as well. Of two that hold the model one that is lost
  // would do: the gateway cannot know which of them has the request.
  await waitUntil(
    "the first is given up",
    async () => (await fleet.manage("GET", "/api/v1/models/slow")).text,
    (text) => !text.includes("slow-0"),
  );
  await using third = await openSlowPod(fleet, "slow-2");
  const twice = call();
  await second.whenAsked(2);
  await whenHedged(reroutes + 3);
  await second.endAdapter();
  await third.whenAsked(1);
  await whenHedged(reroutes + 4);
  await using fourth = await openSlowPod(fleet, "slow-3");
  await third.endAdapter();
  await fourth.whenAsked(1);
  // And so may the next, and the one after it.
  await whenHedged(reroutes + 5);
  await using fifth = await openSlowPod(fleet, "slow-4");
  await fourth.endAdapter();
  await fifth.whenAsked(1);
  await whenHedged(reroutes + 6);
  await using sixth = await openSlowPod(fleet, "slow-5");
  await fifth.endAdapter();
  await sixth.whenAsked(1);
  sixth.asked[0]?.end("{}");
  const last = await twice;
  assert.deepEqual([last.status, last.headers.get("x-pod")], [200, "slow-5"]);
});
