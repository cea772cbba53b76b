// A gateway that starts while etcd is away: it waits and says so, what Envoy holds is served on, and it goes on by itself.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type EtcdServer, openEtcd } from "../harness/etcd.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { createRestClient } from "../harness/http.ts";
import { waitUntil } from "../harness/wait.ts";

const hot = "iris-t0001";
const cold = "iris-t0002";
const stack = new AsyncDisposableStack();
let etcd: EtcdServer;
let fleet: TestFleet;

before(async () => {
  etcd = stack.use(await openEtcd());
  fleet = stack.use(await openFleet({ etcd, pods: 1 }));
  for (const wire of ["rest", "grpc"] as const) {
    await waitUntil(
      `${hot} is hit over ${wire}`,
      () => fleet.asker.ask(hot, wire),
      ({ miss }) => !miss,
    );
  }
});

after(() => stack.disposeAsync());

async function probe(path: string): Promise<string> {
  await using client = createRestClient(fleet.adminUrl);
  return await client.ask(path).then(
    ({ status, text }) => `${status} ${text}`,
    () => "nobody",
  );
}

test("hits go on, the probes tell what it waits for, and it serves once etcd is back", { timeout: 200_000 }, async () => {
  const before = fleet.process("gateway").pid;
  await etcd.kill();
  process.kill(before ?? 0, "SIGKILL");
  await waitUntil(
    "it says what it waits for",
    () => probe("/readyz"),
    (text) => /^503 .*waits for its registry/.test(text),
    60_000,
  );
  assert.match(await probe("/healthz"), /^200 /);
  assert.match(await probe("/api/v1/models"), /^404 /);
  const { pid } = fleet.process("gateway");
  assert.notEqual(pid, before);
  for (let request = 0; request < 200; request += 1) {
    const { miss } = await fleet.asker.ask(hot, request % 2 === 0 ? "rest" : "grpc");
    assert.equal(miss, false);
  }
  assert.equal(fleet.process("gateway").pid, pid, "it was started again and again");
  await etcd.start();
  await waitUntil(
    "it serves",
    () => probe("/readyz"),
    (text) => text.startsWith("200"),
    60_000,
  );
  assert.equal(fleet.process("gateway").pid, pid);
  await fleet.asker.ask(cold, "rest");
  await fleet.asker.ask(hot, "grpc");
});
