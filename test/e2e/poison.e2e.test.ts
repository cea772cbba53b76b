// A model that loads well and kills whatever model server is asked for it. Over real adapters, gateways and Envoys, beside
// model servers that are scripted to die of it and to be started again: it costs two of them, and not one after the other.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fieldOf, openScripted, type ScriptedServer } from "#adapters/testing/scripted.ts";
import { sleep } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { openAdapterPod } from "../harness/adapterpod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";

const pods = 5;
const restartMs = 300;
const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let folder: string;
/** Pods whose server died, in order. */
const deaths: string[] = [];

/** As MLServer answers, to the driver and to clients. */
async function openMortal(podId: string): Promise<ScriptedServer> {
  const end = new AbortController();
  const server: ScriptedServer = await openScripted(async ({ method, path }, held) => {
    const [, name = "", what] = /^\/v2\/(?:repository\/)?models\/([^/]+)\/(\w+)$/.exec(path) ?? [];
    if (path === "/v2/health/live") return { status: 200, body: {} };
    if (method === "POST" && what === "load") {
      held.set(name, "");
      return { status: 200, body: {} };
    }
    if (!held.has(name)) return { status: 404, body: { error: `Model ${name} not found` } };
    if (what === "unload") held.delete(name);
    if (what !== "infer") return { status: 200, body: {} };
    if (!name.startsWith("poison")) return { status: 200, body: { model_name: name, outputs: [] } };
    deaths.push(podId);
    await server.kill();
    // As whatever starts model servers does.
    void sleep(restartMs, end.signal).then(
      () => server.revive(),
      () => undefined,
    );
    throw new Error("it is dead");
  });
  stack.defer(() => end.abort());
  return stack.use(server);
}

before(async () => {
  folder = stack.use(await openRunFolder()).path;
  fleet = stack.use(await openFleet({ pods: 1, gateways: 2 }));
  for (let at = 0; at < pods; at++) {
    const { address } = await openMortal(`mortal-${at}`);
    const options = { podId: `mortal-${at}`, runtime: "mortal", driver: "mlserver", restAddress: address, grpcAddress: address };
    const flags = { repository: join(folder, `repository-${at}`), formats: "sklearn", "min-age": "0s" };
    stack.use(await openAdapterPod(fleet, { ...options, capacityBytes: 2 ** 30, storageRoot: folder, flags }));
  }
  await writeFile(join(folder, "model.joblib"), "a model");
  for (const name of ["poison-1", "poison-2", ...innocents]) {
    await fleet.register(name, `file://${join(folder, "model.joblib")}`, "sklearn");
  }
});
after(() => stack.disposeAsync());

const innocents = Array.from({ length: 6 }, (_, at) => `innocent-${at}`);

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly retryAfter: string | null;
}

async function ask(model: string, gateway = 0): Promise<Answer> {
  const restUrl = fleet.gateways[gateway]?.restUrl ?? assert.fail();
  const answer = await fetch(`${restUrl}/v2/models/${model}/infer`, { method: "POST", body: '{"inputs":[]}' });
  return { status: answer.status, text: await answer.text(), retryAfter: answer.headers.get("retry-after") };
}

/** Asks for the innocents all the time; resolves when it is stopped, with what was not answered. */
function startInnocents(): { readonly stop: () => Promise<readonly string[]>; readonly answered: () => number } {
  const over = new AbortController();
  let answered = 0;
  const failed: string[] = [];
  const clients = innocents.map(async (model, at) => {
    while (!over.signal.aborted) {
      const { status, text } = await ask(model, at % 2);
      if (status === 200) answered += 1;
      else failed.push(`${model}: ${status} ${text}`);
      await sleep(10);
    }
  });
  return {
    answered: () => answered,
    async stop() {
      over.abort();
      await Promise.all(clients);
      return failed;
    },
  };
}

test("one request for it costs two model servers, and the client is told why", { timeout: 120_000 }, async () => {
  const { status, text, retryAfter } = await ask("poison-1");
  assert.equal(deaths.length, 2, `${deaths.join()} ${status} ${text}`);
  assert.match(String(fieldOf(JSON.parse(text), "error")), /mortal-\d(, mortal-\d)? died while they were asked for it/);
  assert.ok(status === 424 && Number(retryAfter) > 60, `${status} ${retryAfter}`);
});

test("asked again, through whichever gateway, it costs no more than two for each of them, and soon none", {
  timeout: 120_000,
}, async () => {
  const before = deaths.length;
  for (let at = 0; at < 20; at++) assert.notEqual((await ask("poison-1", at % 2)).status, 200);
  assert.ok(deaths.length - before <= 2, deaths.join());
  const settled = deaths.length;
  for (let at = 0; at < 20; at++) assert.notEqual((await ask("poison-1", at % 2)).status, 200);
  assert.equal(deaths.length, settled, deaths.join());
});

test("asked for by a hundred at once beside others: a few die, the others are all answered", { timeout: 180_000 }, async () => {
  const traffic = startInnocents();
  await waitUntil("the innocents are warm", traffic.answered, (answered) => answered > 600);
  const before = deaths.length;
  const answers = await Promise.all(Array.from({ length: 100 }, (_, at) => ask("poison-2", at % 2)));
  for (let at = 0; at < 50; at++) answers.push(await ask("poison-2", at % 2));
  assert.ok(answers.every(({ status }) => status !== 200));
  const cost = deaths.length - before;
  // Two for each gateway, and where a busy machine has a gateway hear late of a death, what was sent on meanwhile.
  assert.ok(cost >= 1 && cost <= 6, `${cost} died: ${deaths.join()}`);
  const answered = traffic.answered();
  await waitUntil("the innocents go on", traffic.answered, (now) => now > answered + 100);
  assert.deepEqual(await traffic.stop(), []);
});
