// Several gateways, each with its own Envoy, and pods that come and go, as real processes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { sleep } from "#platform/clock.ts";
import { loadsForRequests } from "../harness/decisions.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { type Asker, createAsker } from "../harness/models.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
const askers: Asker[] = [];
const asked = 1_000;
const patienceMs = 120_000;

before(async () => {
  fleet = stack.use(await openFleet({ gateways: 3, pods: 3, capacityBytes: 64 * 2 ** 20 }));
  await fleet.whenServing();
  for (const { restUrl, grpcTarget } of fleet.gateways) {
    askers.push(stack.use(createAsker({ restUrl, grpcTarget, oracle: fleet.oracle, connections: Math.ceil(asked / 3) })));
  }
});
after(() => stack.disposeAsync());

/** The pods that any gateway chose for requests; copies that demand brings later are others. */
async function placedForRequests(model: string): Promise<{ readonly podIds: readonly string[]; readonly homeLost: boolean }> {
  const found = fleet.gateways.map(async ({ adminUrl }) => {
    const explained = await fetch(`${adminUrl}/api/v1/models/${model}/explain`);
    return ((await explained.json()) as { decisions: { kind: string; reason: string; podId?: string }[] }).decisions;
  });
  const decisions = (await Promise.all(found)).flat();
  const placed = decisions.filter(({ kind, reason }) => kind === "placed" && reason === "for a request");
  // The same pod named twice is one load: it joins the one that is under way.
  return {
    podIds: [...new Set(placed.map(({ podId = "" }) => podId))],
    homeLost: decisions.some(({ kind }) => kind === "home-lost"),
  };
}

/**
 * A home that a busy machine keeps from answering in time may cost a second load, and is passed over for a while, for other
 * models too; else there is one, and one only.
 */
async function assertLoadedOnce(...models: readonly string[]): Promise<void> {
  const found = await Promise.all(models.map(async (model) => ({ model, ...(await placedForRequests(model)) })));
  const homeLost = found.some((each) => each.homeLost);
  for (const { model, podIds } of found)
    assert.ok(podIds.length === 1 || (homeLost && podIds.length <= 3), `${model} was loaded on ${podIds.join(", ")}`);
}

async function copiesOf(model: string): Promise<readonly { readonly pod: string; readonly state: string }[]> {
  const { json } = await fleet.manage("GET", `/api/v1/models/${model}`);
  return (json as { copies: { pod: string; state: string }[] }).copies;
}

test("a thousand requests for one cold model through three gateways at once load it once", { timeout: 300_000 }, async () => {
  const model = fleet.oracle.models[0] ?? assert.fail();
  const answers = await Promise.all(Array.from({ length: asked }, (_, at) => askers[at % 3]!.ask(model, "rest")));
  assert.ok(answers.some(({ miss }) => miss));
  await assertLoadedOnce(model);
  // Nor later: what was held while it was loaded is no demand for more copies, which would be seen within two seconds. Those that
  // come after the load are: on a slow machine some do, and take their time behind the others.
  const hits = answers.filter(({ miss }) => !miss).length;
  const { podIds } = await placedForRequests(model);
  await sleep(3_000);
  if (hits === 0) assert.equal((await copiesOf(model)).length, podIds.length);
});

test("many cold models through all gateways at once: each is loaded once, and all are answered", {
  timeout: 300_000,
}, async () => {
  const models = fleet.oracle.models.slice(1, 31);
  await Promise.all(models.flatMap((model) => askers.map((asker) => asker.ask(model, "rest"))));
  await assertLoadedOnce(...models);
});

test("copies that are asked for by name come about whichever gateway is asked", async () => {
  const models = fleet.oracle.models.slice(31, 31 + fleet.gateways.length);
  const ask = async (adminUrl: string, model: string, body: unknown): Promise<Response> =>
    await fetch(`${adminUrl}/api/v1/models/${model}/load`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  for (const model of models) {
    for (const [at, { adminUrl }] of fleet.gateways.entries()) {
      const answer = await ask(adminUrl, model, { copies: 2, wait: at > 0 });
      assert.equal(answer.status, 200, await answer.clone().text());
      if (at > 0) assert.equal(((await answer.json()) as { ready: number }).ready, 2);
    }
    assert.equal((await copiesOf(model)).filter(({ state }) => state === "ready").length, 2);
  }
  const refused = await ask(fleet.adminUrl, models[0] ?? "", { copies: 4, timeoutMs: 1_000 });
  assert.equal(refused.status, 503, await refused.text());
});

test("a pod that is asked to stop serves until its copies are elsewhere: no request fails, none waits", {
  timeout: 300_000,
}, async () => {
  const models = fleet.oracle.models.slice(0, 31);
  const going = "pod-0";
  const held = (await Promise.all(models.map(copiesOf))).flat().filter(({ pod }) => pod === going).length;
  assert.ok(held > 0, "it holds some of them");
  const over = new AbortController();
  const failures: string[] = [];
  let answered = 0;
  const driving = askers.map(async (asker, at) => {
    for (let turn = at; !over.signal.aborted; turn++) {
      const model = models[turn % models.length] ?? assert.fail();
      await asker.ask(model, "rest").then(
        () => void (answered += 1),
        (error: unknown) => failures.push(String(error)),
      );
      await sleep(2);
    }
  });
  await waitUntil(
    "the traffic runs",
    () => answered,
    (count) => count > 30,
    patienceMs,
  );
  const startedMs = Date.now();
  const adapter = fleet.process(`${going}-adapter`);
  await adapter.stop(90_000);
  await fleet.process(`${going}-server`).stop();
  const mark = answered;
  await waitUntil(
    "the traffic goes on",
    () => answered,
    (count) => count > mark + 2 * models.length,
    patienceMs,
  );
  over.abort();
  await Promise.all(driving);
  assert.deepEqual(failures, []);
  const loads = await Promise.all(models.map((model) => loadsForRequests(fleet, model, startedMs)));
  assert.deepEqual(loads.flat(), [], "requests that had to wait for a load");
  for (const model of models) {
    const copies = await copiesOf(model);
    assert.ok(copies.some(({ state }) => state === "ready") && copies.every(({ pod }) => pod !== going), model);
  }
});
