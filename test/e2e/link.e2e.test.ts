// The Link between real gateways' ends and a real adapter, over a network that breaks in every way there is.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openAdapter } from "#adapters/adapter.ts";
import { createFakeServer } from "#adapters/testing/driver.ts";
import { createFleet, type Fleet } from "#gateway/fleet.ts";
import { createLinks, type Links } from "#gateway/links.ts";
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import { openTcpProxy, type TcpProxy } from "../harness/tcpproxy.ts";

const patient = { timeoutMs: 60_000 };

interface End extends Disposable {
  readonly fleet: Fleet;
  readonly links: Links;
  readonly proxy: TcpProxy;
  /** Copies that it knows, with their states. */
  readonly copies: () => string;
  readonly reachable: () => boolean | undefined;
}

interface Net extends AsyncDisposable {
  readonly one: End;
  readonly other: End;
  readonly withdrawn: readonly string[];
}

async function openNet(): Promise<Net> {
  await using opening = new AsyncDisposableStack();
  const server = createFakeServer();
  const adapter = opening.use(
    await openAdapter({
      pod: {
        podId: "pod-1",
        runtime: "fake",
        restAddress: "127.0.0.1:1",
        grpcAddress: "127.0.0.1:2",
        labels: {},
        formats: ["fake"],
      },
      holding: { capacityBytes: 1_000, minAgeMs: 0 },
      driver: server.openDriver(systemClock),
      puller: {
        probe: async () => ({ kind: "ok", sizeBytes: 10 }),
        pull: async () => ({ kind: "ok", path: "/m", sizeBytes: 10, release: async () => undefined }),
      },
      link: { host: "127.0.0.1", port: 0 },
      log: silentLog,
    }),
  );
  const withdrawn: string[] = [];
  const openEnd = async (gatewayId: string): Promise<End> => {
    const proxy = opening.use(await openTcpProxy(adapter.linkAddress));
    const fleet = createFleet({ onCopies: () => undefined, onPod: () => undefined });
    const links = opening.use(
      createLinks({
        gatewayId,
        fleet,
        clock: systemClock,
        log: silentLog,
        onRefused: () => undefined,
        onBreak: () => undefined,
        isServed: () => true,
        withdrawn: async (changes) => void withdrawn.push(...changes.map(({ model }) => `${gatewayId} ${model}`)),
      }),
    );
    links.setPresent({ podId: "pod-1", incarnation: adapter.incarnation, linkAddress: proxy.address });
    await waitFor(() => links.isLinked("pod-1"), patient);
    return {
      fleet,
      links,
      proxy,
      copies: () =>
        Array.from(fleet.pod("pod-1")?.copies.values() ?? [], ({ model, state }) => `${model} ${state}`)
          .sort()
          .join(),
      reachable: () => fleet.pod("pod-1")?.reachable,
      [Symbol.dispose]: () => links[Symbol.dispose](),
    };
  };
  const one = await openEnd("g1");
  const other = await openEnd("g2");
  const parts = opening.move();
  return { one, other, withdrawn, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

function load({ links }: End, model: string): void {
  const revision = { id: "r1", slot: 0, format: "fake", storageUri: `file:///${model}`, sizeHintBytes: 100 };
  links.sendLoad("pod-1", model, revision as never, { loadClass: "waiting-user", waitMs: 20_000 });
}

test("a broken connection is noticed at once, and what happened meanwhile is known after it", async () => {
  await using net = await openNet();
  const { one, other } = net;
  load(one, "a");
  await waitFor(() => one.copies() === "a ready" && other.copies() === "a ready", patient);
  const brokenMs = performance.now();
  one.proxy.break();
  await waitFor(() => one.reachable() === false, patient);
  // Silence alone would be noticed after 3.5 s.
  assert.ok(performance.now() - brokenMs < 3_000);
  load(other, "b");
  await waitFor(() => one.copies() === "a ready,b ready" && one.reachable() === true, patient);
});

test("a pod that is present and has not been heard yet is awaited, by those who want its runtime", async () => {
  await using net = await openNet();
  const { links, proxy } = net.one;
  assert.equal(links.awaits(undefined), false, "the pod that is there is linked");
  proxy.stop("down");
  links.setPresent({ podId: "pod-2", incarnation: "1", linkAddress: proxy.address, runtime: "later" });
  assert.deepEqual(
    [undefined, "later", "other"].map((runtime) => links.awaits(runtime)),
    [true, true, false],
  );
  links.setAbsent("pod-2");
  assert.equal(links.awaits("later"), false, "it left, and one is there that may run anything");
});

test("a pod whose Link broke is awaited for a while, if it is still present", async () => {
  await using net = await openNet();
  const { links, proxy } = net.one;
  proxy.stop("down");
  await waitFor(() => !links.isLinked("pod-1"), patient);
  assert.equal(links.awaits("fake"), true);
});

for (const direction of ["up", "down"] as const) {
  test(`nothing comes through ${direction} between one gateway and the pod: the other gateway goes on, and evictions do not hang`, async () => {
    await using net = await openNet();
    const { one, other, withdrawn } = net;
    for (const at of Array(10).keys()) load(other, `m${at}`);
    await waitFor(() => other.copies().split(",").length === 10 && !other.copies().includes("loading"), patient);
    one.proxy.stop(direction);
    // Full: the next one wants room, hence a withdrawal that the cut off gateway cannot acknowledge.
    load(other, "late");
    await waitFor(() => other.copies().includes("late ready"), patient);
    assert.ok(withdrawn.some((line) => line.startsWith("g2 ")));
    assert.equal(other.reachable(), true);
    await waitFor(() => one.reachable() !== true, patient);
    one.proxy.go();
    await waitFor(() => one.reachable() === true && one.copies() === other.copies(), patient);
  });
}

test("a pod that the registry says has started anew is not counted on before its new Link says what it holds", async () => {
  await using net = await openNet();
  const { one } = net;
  assert.equal(one.reachable(), true);
  // Where nobody listens, as when the Link of before has not noticed that its pod is gone.
  one.links.setPresent({ podId: "pod-1", incarnation: "another", linkAddress: "127.0.0.1:1" });
  assert.deepEqual([one.reachable(), one.links.isLinked("pod-1")], [false, false]);
});

test("a pod that falls silent is noticed within 5 s, and one that the registry forgot lives with its Link only", async () => {
  await using net = await openNet();
  const { one, other } = net;
  const silentMs = performance.now();
  one.proxy.stop("down");
  one.proxy.stop("up");
  await waitFor(() => one.reachable() !== true, patient);
  const tookMs = performance.now() - silentMs;
  one.proxy.go();
  await waitFor(() => one.reachable() === true, patient);
  assert.ok(tookMs < 15_000, `${tookMs} ms`);
  one.links.setAbsent("pod-1");
  other.links.setAbsent("pod-1");
  assert.equal(one.reachable(), true);
  const { accepted } = one.proxy;
  one.proxy.stop("down");
  one.proxy.break();
  await waitFor(() => one.fleet.pod("pod-1") === undefined, patient);
  one.proxy.go();
  assert.equal(other.reachable(), true);
  const seen = one.proxy.accepted;
  assert.ok(seen > accepted);
  const untilMs = performance.now() + 3_000;
  await waitFor(() => performance.now() > untilMs, patient);
  assert.equal(one.proxy.accepted, seen, "it is not asked for any more");
});
