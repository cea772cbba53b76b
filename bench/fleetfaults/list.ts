// Owns the faults of a fleet of several gateways over etcd: how each is made from outside, and when it is over. None of the
// processes is told.
import assert from "node:assert/strict";
import { sleep } from "#platform/clock.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { modelKey } from "#platform/registry/records.ts";
import type { EtcdServer } from "#test/harness/etcd.ts";
import type { TestFleet } from "#test/harness/fleet.ts";
import { createRestClient } from "#test/harness/http.ts";
import type { TcpProxy } from "#test/harness/tcpproxy.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { type FaultContext, killAndAwait, pidOf } from "../faults/fault.ts";

export interface FleetFaultContext extends FaultContext {
  readonly etcd: EtcdServer;
  /** Before the adapter of pod-0. */
  readonly proxy: Pick<TcpProxy, "cutOff" | "heal">;
  /** How long what lasts shall last: 1 for the whole time, less in tests. */
  readonly share: number;
}

export interface FleetFault {
  readonly name: string;
  /** One line. */
  readonly what: string;
  /** Resolves when it is over. Throws when what had to be refused was not, or not in time. */
  readonly make: (context: FleetFaultContext) => Promise<void>;
}

const outageMs = 120_000;
const frozenMs = 30_000;
const splitMs = 20_000;
const slowMs = 20_000;
const flips = 40;
const patientMs = 90_000;

export const fleetFaults: readonly FleetFault[] = [
  {
    name: "podKilled",
    what: "model server and adapter of a pod are killed at once",
    make: ({ fleet }) => killAndAwait(fleet, ["pod-0-server", "pod-0-adapter"]),
  },
  { name: "gatewayKilled", what: "a gateway is killed", make: ({ fleet }) => killAndAwait(fleet, ["gateway-0"]) },
  {
    name: "etcdKilled",
    what: "etcd is away for 2 minutes: hits and cold loads go on, registering says that it cannot",
    make: etcdAway,
  },
  { name: "etcdEmptied", what: "etcd comes back without its data: nothing is forgotten, and all is restored", make: etcdEmptied },
  {
    name: "splitGatewayAndPod",
    what: "one gateway and one pod cannot reach each other, in silence for 20 s and by broken connections for 20 s",
    make: split,
  },
  { name: "podFrozen", what: "model server and adapter of a pod stand still for 30 s", make: freeze },
  { name: "podSlow", what: "a model server has a tenth of its time for 20 s", make: slow },
  { name: "revisionsFlipping", what: "a model's active revision goes to and fro while a pod is killed", make: flip },
];

async function etcdAway({ fleet, etcd, traffic, takeCold, share, signal }: FleetFaultContext): Promise<void> {
  await etcd.kill();
  const endMs = performance.now() + outageMs * share;
  do {
    for (const model of takeCold(4)) await askCold(fleet, model, traffic);
    await expectRefusal(fleet, "registry-unavailable");
    await traffic.more(50);
    await sleep(1_000 * share, signal);
  } while (performance.now() < endMs);
  await etcd.start();
  await expectRegistering(fleet);
}

async function etcdEmptied({ fleet, etcd, traffic, takeCold }: FleetFaultContext): Promise<void> {
  const { models } = await registryOf(fleet, 0);
  await etcd.kill();
  etcd.loseData();
  await etcd.start();
  for (const at of fleet.gateways.keys()) {
    await waitUntil(
      "the loss is noticed",
      () => registryOf(fleet, at),
      (seen) => seen.missing === models && seen.models === models,
      patientMs,
    );
  }
  await expectRefusal(fleet, "registry-replaced");
  for (const model of takeCold(4)) await askCold(fleet, model, traffic);
  await traffic.more(100);
  await using client = createRestClient(fleet.adminUrl);
  // Ten thousand models may take longer than the client waits for an answer: what counts is that they are there.
  await client.ask("/api/v1/registry/restore", { method: "POST" }).catch(() => undefined);
  for (const at of fleet.gateways.keys()) {
    await waitUntil(
      "the registry is whole",
      () => registryOf(fleet, at),
      (seen) => seen.missing === 0 && seen.models === models,
      patientMs,
    );
  }
  await expectRegistering(fleet);
}

async function freeze({ fleet, traffic, share, signal }: FleetFaultContext): Promise<void> {
  const pids = ["pod-0-server", "pod-0-adapter"].map((name) => pidOf(fleet, name));
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  try {
    await sleep(frozenMs * share, signal);
  } finally {
    for (const pid of pids) process.kill(pid, "SIGCONT");
  }
  await fleet.whenServing();
  await traffic.more(100);
}

async function split({ fleet, proxy, traffic, takeCold, share, signal }: FleetFaultContext): Promise<void> {
  for (const how of ["silent", "loud"] as const) {
    proxy.cutOff("gateway-0", how);
    try {
      const endMs = performance.now() + splitMs * share;
      do {
        for (const model of takeCold(2)) await askCold(fleet, model, traffic);
        await traffic.more(50);
        await sleep(1_000 * share, signal);
      } while (performance.now() < endMs);
    } finally {
      proxy.heal();
    }
    await fleet.whenServing();
    await traffic.more(50);
  }
}

async function slow({ fleet, traffic, share, signal }: FleetFaultContext): Promise<void> {
  const pid = pidOf(fleet, "pod-1-server");
  const endMs = performance.now() + slowMs * share;
  try {
    while (performance.now() < endMs) {
      process.kill(pid, "SIGSTOP");
      await sleep(90, signal);
      process.kill(pid, "SIGCONT");
      await sleep(10, signal);
    }
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await traffic.more(100);
}

async function flip({ fleet, models, traffic, signal }: FleetFaultContext): Promise<void> {
  await using registry = await openRegistry(fleet.registry);
  const key = modelKey(models[0] ?? "");
  const dying = killAndAwait(fleet, ["pod-1-server", "pod-1-adapter"]);
  dying.catch(() => undefined);
  for (let at = 0; at < flips; at += 1) {
    const entry = await registry.get(key);
    assert.ok(entry !== undefined);
    const put = await registry.put(key, flipped(entry.value), { expect: entry.revision });
    assert.ok(put.kind === "ok" || put.kind === "conflict", put.kind);
    await sleep(100, signal);
  }
  await dying;
  await traffic.more(100);
}

/** The same artefact under two revisions: whichever serves, the answer is the same. */
function flipped(record: string): string {
  const model = JSON.parse(record) as { revisions: { id: string; slot: number }[]; active: string };
  const [first] = model.revisions;
  assert.ok(first !== undefined);
  if (model.revisions.length === 1) model.revisions.push({ ...first, id: "r-flipped", slot: first.slot + 1 });
  model.active = model.revisions.find(({ id }) => id !== model.active)?.id ?? first.id;
  return JSON.stringify(model);
}

async function askCold(fleet: TestFleet, model: string, traffic: FaultContext["traffic"]): Promise<void> {
  const startMs = performance.now();
  try {
    await fleet.asker.ask(model, "rest");
    traffic.count(performance.now() - startMs, "right");
  } catch (error) {
    traffic.count(performance.now() - startMs, {
      failure: `cold ${model}: ${error instanceof Error ? error.message : String(error)}`,
    });
  }
}

const spec = { format: "onnx", storageUri: "file:///nowhere/model.onnx" };

async function expectRefusal(fleet: TestFleet, code: string): Promise<void> {
  for (const { adminUrl } of fleet.gateways) {
    await using client = createRestClient(adminUrl);
    const startMs = performance.now();
    const answer = await client.ask("/api/v1/models/registered-now", {
      method: "PUT",
      headers: [["content-type", "application/json"]],
      body: spec,
    });
    assert.equal(answer.status, 503, answer.text);
    assert.match(answer.text, new RegExp(`"code":"${code}"`));
    assert.ok(performance.now() - startMs < 10_000, `it took ${performance.now() - startMs} ms to say so`);
  }
}

async function expectRegistering(fleet: TestFleet): Promise<void> {
  for (const { adminUrl } of fleet.gateways) {
    await using client = createRestClient(adminUrl);
    await waitUntil(
      "registering works again",
      async () =>
        (
          await client.ask("/api/v1/models/registered-later", {
            method: "PUT",
            headers: [["content-type", "application/json"]],
            body: spec,
          })
        ).status,
      (status) => status === 201 || status === 200,
      patientMs,
    );
  }
}

async function registryOf(fleet: TestFleet, at: number): Promise<{ readonly models: number; readonly missing: number }> {
  await using client = createRestClient(fleet.gateways[at]?.adminUrl ?? "");
  const answer = await client.ask("/api/v1/registry", { method: "GET" });
  const found: unknown = JSON.parse(answer.text);
  if (typeof found !== "object" || found === null || !("models" in found) || !("missing" in found)) throw new Error(answer.text);
  return { models: Number(found.models), missing: Number(found.missing) };
}
