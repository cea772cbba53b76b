// Every kind of child killed by SIGKILL under traffic: it is started again, and no request notices. Only Envoy's own death
// breaks connections that clients hold; there, serving goes on as soon as it is back.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { TrafficReport } from "#cli/traffic/report.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { startTraffic, type Traffic } from "../harness/traffic.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;
/** More than fit, so that loads and evictions go on as well. */
let models: readonly string[];

before(async () => {
  fleet = await openFleet();
  models = fleet.oracle.models.filter((_, at) => at % 20 === 0);
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
});

/** Kills the process and resolves when the supervisor has it ready again, as another process. */
async function killAndAwaitRestart(name: string): Promise<void> {
  const process_ = fleet.process(name);
  const { pid, restarts } = process_;
  assert.ok(pid !== undefined, `${name} is not running: ${JSON.stringify(process_.state)}`);
  process.kill(pid, "SIGKILL");
  await waitUntil(
    `${name} is started again`,
    () => ({ restarts: process_.restarts, state: process_.state }),
    (seen) => seen.restarts === restarts + 1 && seen.state.kind === "ready" && seen.state.pid !== pid,
    120_000,
  );
}

const concurrency = 8;

/** No request failed, and no answer was wrong. */
async function assertUnharmed(name: string, report: TrafficReport, traffic: Traffic): Promise<void> {
  if (report.wrong === 0 && traffic.trouble.length === 0) return;
  const told = traffic.trouble.map(({ atMs, model, reason }) => `${atMs.toFixed(0)} ms: ${model}: ${reason}`);
  assert.fail([`${name} was killed: ${JSON.stringify(report)}`, ...told, await tellAll(name)].join("\n"));
}

async function tellAll(name: string): Promise<string> {
  const said = fleet.log.lines.map(({ level, message, keys }) => `${level} ${message} ${JSON.stringify(keys)}`);
  return [
    `--- supervisor`,
    ...said.slice(-10),
    `--- ${name}`,
    await fleet.tail(name),
    "--- gateway",
    await fleet.tail("gateway"),
  ].join("\n");
}

for (const name of ["pod-0-server", "pod-1-adapter", "gateway", "pod-1-server", "pod-0-adapter"]) {
  test(`${name} is killed under traffic: it is started again, and no request fails`, async () => {
    const traffic = startTraffic(fleet, { models, concurrency });
    await traffic.more(1_000);
    await killAndAwaitRestart(name);
    await traffic.more(500);
    await fleet.whenServing();
    await traffic.more(500);
    const report = await traffic.stop();
    await assertUnharmed(name, report, traffic);
    assert.ok(report.hits > 0, JSON.stringify(report));
  });
}

test("the gateway is gone: hits go on without it", async () => {
  const model = models[0]!;
  await waitUntil(
    `${model} is hit`,
    () => fleet.asker.ask(model, "rest"),
    ({ miss }) => !miss,
  );
  const gateway = fleet.process("gateway");
  const { restarts } = gateway;
  const before = await fleet.stats();
  process.kill(gateway.pid!, "SIGKILL");
  const isBack = (): boolean => gateway.restarts > restarts && gateway.state.kind === "ready";
  let hits = 0;
  while (!isBack() && hits < 5_000) {
    for (const wire of ["rest", "grpc"] as const) assert.deepEqual(await fleet.asker.ask(model, wire), { miss: false }, wire);
    hits += 2;
  }
  assert.ok(hits > 10, `${hits} hits before it was back`);
  await fleet.whenServing();
  for (let more = 0; more < 20; more++) await fleet.asker.ask(model, "rest");
  const now = await fleet.stats();
  const seen = `hits ${before.hits}, then ${now.hits}; misses ${before.misses}, then ${now.misses}`;
  // Envoy has them all in its counters; those of the gateway before are in no share of this one.
  assert.ok((before.hits ?? 0) > 1_000 && (now.hits ?? 0) >= 20 && (now.hits ?? 0) < (before.hits ?? 0), seen);
});

test("a pod's model server and adapter are killed at once: its models are loaded elsewhere, and no request fails", async () => {
  const traffic = startTraffic(fleet, { models, concurrency });
  await traffic.more(1_000);
  await Promise.all(["pod-0-server", "pod-0-adapter"].map(killAndAwaitRestart));
  await fleet.whenServing();
  await traffic.more(500);
  await assertUnharmed("pod-0-server", await traffic.stop(), traffic);
});

test("Envoy is killed under traffic: it is back within seconds with the table it had, and no answer is wrong", async () => {
  const traffic = startTraffic(fleet, { models, concurrency });
  await traffic.more(1_000);
  const { warm } = await fleet.stats();
  await killAndAwaitRestart("envoy");
  const backMs = performance.now();
  await traffic.more(500);
  assert.ok(performance.now() - backMs < 60_000, `500 right answers took ${performance.now() - backMs} ms`);
  await fleet.whenServing();
  const report = await traffic.stop();
  assert.equal(report.wrong, 0, `${JSON.stringify(report)} ${JSON.stringify(traffic.trouble)}`);
  const scopes = await fleet.envoyStats("^http\\.warm_http\\.scoped_rds\\..*active_scopes$");
  const now = Math.max(...scopes.values());
  assert.ok(now >= Math.min(warm, 100), `${now} scopes in Envoy, ${warm} warm models before: ${JSON.stringify([...scopes])}`);
});

test("every process serves in the end, and each was started again as often as it was killed", async () => {
  await fleet.whenServing();
  const restarts = Object.fromEntries([...fleet.processes].map(([name, process]) => [name, process.restarts]));
  assert.deepEqual(restarts, {
    "pod-0-server": 2,
    "pod-0-adapter": 2,
    "pod-1-server": 1,
    "pod-1-adapter": 1,
    gateway: 2,
    envoy: 1,
  });
});
