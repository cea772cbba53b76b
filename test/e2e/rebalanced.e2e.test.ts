// Of two pods one does all the work, since only its models are asked for: some of them move to the other, and no request
// notices.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { sleep } from "#platform/clock.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;
const patienceMs = 240_000;

before(async () => {
  fleet = await openFleet({ pods: 2, capacityBytes: 64 * 2 ** 20 });
  await fleet.whenServing();
});
after(() => fleet?.[Symbol.asyncDispose]());

async function readyOn(model: string): Promise<readonly string[]> {
  const { json } = await fleet.manage("GET", `/api/v1/models/${model}`);
  return (json as { copies: { pod: string; state: string }[] }).copies.flatMap(({ pod, state }) =>
    state === "ready" ? [pod] : [],
  );
}

async function decisionsOn(model: string): Promise<readonly { readonly kind: string; readonly reason: string }[]> {
  const { json } = await fleet.manage("GET", `/api/v1/models/${model}/explain`);
  return (json as { decisions: { kind: string; reason: string }[] }).decisions;
}

test("models of a busy pod move to an idle one under traffic", { timeout: 400_000 }, async (t) => {
  const models = fleet.oracle.models.slice(0, 24);
  for (const model of models) await fleet.asker.ask(model, "rest");
  const places = await Promise.all(models.map(async (model) => ({ model, pods: await readyOn(model) })));
  const busy = places.filter(({ pods }) => pods[0] === "pod-0").length >= models.length / 2 ? "pod-0" : "pod-1";
  const calm = busy === "pod-0" ? "pod-1" : "pod-0";
  const asked = places.filter(({ pods }) => pods.length === 1 && pods[0] === busy).map(({ model }) => model);
  assert.ok(asked.length >= models.length / 2, `${asked.length} models are on ${busy}`);

  const over = new AbortController();
  const failures: string[] = [];
  let odd = 0;
  const { misses, reroutes } = await fleet.stats();
  const driving = Array.from({ length: 16 }, async (_, at) => {
    for (let turn = at * 7; !over.signal.aborted; turn++) {
      const model = asked[turn % asked.length] ?? assert.fail();
      await fleet.asker.ask(model, turn % 2 === 0 ? "rest" : "grpc").then(
        ({ miss }) => void (odd += miss ? 1 : 0),
        (error: unknown) => failures.push(String(error)),
      );
      await sleep(20);
    }
  });
  let moved: readonly string[];
  try {
    moved = await waitUntil(
      `some of them are on ${calm} alone`,
      async () => {
        const now = await Promise.all(asked.map(async (model) => ({ model, pods: await readyOn(model) })));
        return now.filter(({ pods }) => pods.length === 1 && pods[0] === calm).map(({ model }) => model);
      },
      (found) => found.length > 0,
      patienceMs,
    );
  } finally {
    over.abort();
    await Promise.all(driving);
  }
  assert.deepEqual(failures, []);
  const after = await fleet.stats();
  assert.equal(after.misses - misses, 0, "requests that found no copy");
  // Some, on a machine that stands still for 2 s: of an answer, or of Envoy's word that a route is gone.
  t.diagnostic(`asked the gateway: ${odd}, of which rerouted or hedged: ${after.reroutes - reroutes}`);
  assert.ok(moved.length < asked.length, "not all of them: then it would be the other pod that is busy");
  for (const model of moved) {
    const told = (await decisionsOn(model)).find(({ kind }) => kind === "moved");
    assert.match(told?.reason ?? "", new RegExp(`^${busy} does [\\d.]+ requests/s, ${calm} [\\d.]+$`));
  }
});
