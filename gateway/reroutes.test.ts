import assert from "node:assert/strict";
import { test } from "node:test";
import { activeRevision } from "#core/model.ts";
import { type Clock, systemClock } from "#platform/clock.ts";
import { createFleet, type Fleet } from "./fleet.ts";
import type { Ensured } from "./flight.ts";
import type { EnsureOptions, Loads } from "./loads.ts";
import { createReroutes, type Hedged, type Rerouted, type RerouteOrigin } from "./reroutes.ts";
import { silentSpan } from "./spans.ts";
import { createSuspects, type Suspects } from "./suspects.ts";
import { modelOf, podInfo } from "./testing.ts";

const model = modelOf("x");
const revision = activeRevision(model);
const copy = { model: "x", revision: "r1", slot: 0, state: "ready", sizeBytes: 1 } as const;

interface Bench {
  readonly fleet: Fleet;
  readonly asked: string[];
  /** Of pod `a`: where the first try went is not where its model server is now. */
  readonly server: { lost: boolean };
  /** Told as `model patience` when a hedge was not needed. */
  readonly outlasted: string[];
  readonly suspects: Suspects;
  find(options?: Partial<EnsureOptions>, origin?: Partial<RerouteOrigin>): Promise<Rerouted>;
  /** Of a request whose first try is at pod `a`. */
  hedge(signal: AbortSignal): Promise<Hedged>;
}

/** Two pods, of which `a` says that it holds the model. */
function openBench(verify: (podId: string, time: number) => boolean, ensured: () => Ensured, clock: Clock = systemClock): Bench {
  const fleet = createFleet({ onCopies: () => undefined, onPod: () => undefined });
  for (const podId of ["a", "b"]) {
    const address = { host: "127.0.0.1", port: podId === "a" ? 1 : 2 };
    const info = podInfo(podId, { rest: address, grpc: address });
    fleet.attach(info, podId === "a" ? [copy] : []);
  }
  const server = { lost: false };
  const asked: string[] = [];
  const outlasted: string[] = [];
  const loads: Pick<Loads, "ensure"> = {
    async ensure() {
      asked.push("ensure");
      return ensured();
    },
  };
  const suspects = createSuspects(systemClock);
  const reroutes = createReroutes({
    fleet,
    loads: loads as Loads,
    suspects,
    clock,
    patienceOf: () => 1,
    onOutlasted: (name, patience) => outlasted.push(`${name} ${patience}`),
    podsOf: (cluster) => (cluster === "gone" ? undefined : ["a"]),
    isCurrent: () => !server.lost,
    async verify(podId) {
      asked.push(podId);
      return verify(podId, asked.filter((other) => other === podId).length);
    },
  });
  const allowed = { deadlineMs: clock.monotonicMs() + 600_000, signal: new AbortController().signal, span: silentSpan };
  const hedge = (signal: AbortSignal): Promise<Hedged> =>
    reroutes.hedge(model, revision, { wire: "rest", from: "known" }, { ...allowed, signal });
  const find = (options: Partial<EnsureOptions> = {}, origin: Partial<RerouteOrigin> = {}): Promise<Rerouted> =>
    reroutes.find(
      model,
      revision,
      { wire: "rest", from: "set-0-rest", ...origin },
      {
        deadlineMs: systemClock.monotonicMs() + 5_000,
        signal: new AbortController().signal,
        span: silentSpan,
        ...options,
      },
    );
  return { fleet, server, asked, outlasted, suspects, find, hedge };
}

const live: Ensured = { kind: "live", waitedMs: 0, entry: "~a" };

test("a pod that holds the model is found at once", async () => {
  const { asked, find } = openBench(
    () => true,
    () => live,
  );
  assert.equal((await find()).kind, "found");
  assert.deepEqual(asked, ["a"]);
});

test("a pod that is thought to hold the model, and does not, is asked until that is known", async () => {
  const bench = openBench(
    (podId) => podId === "b",
    () => {
      // Its adapter notices at last, and the model is loaded elsewhere.
      if (bench.asked.filter((what) => what === "ensure").length === 5) {
        bench.fleet.change("a", [{ ...copy, state: "gone" }]);
        bench.fleet.change("b", [copy]);
      }
      return live;
    },
  );
  assert.equal((await bench.find()).kind, "found");
  assert.equal(bench.asked.at(-1), "b");
  assert.equal(bench.asked.filter((what) => what === "a").length, 5);
});

test("while the routes of a pod that is gone stay, nobody hears that the model was lost", async () => {
  const startMs = systemClock.monotonicMs();
  const bench = openBench(
    (podId) => podId === "b",
    () => {
      // As the Links do after their grace.
      if (systemClock.monotonicMs() - startMs > 3_000 && bench.fleet.pod("a") !== undefined) {
        bench.fleet.detach("a");
        bench.fleet.change("b", [copy]);
      }
      return live;
    },
  );
  bench.fleet.setUnreachable("a");
  const found = await bench.find({ deadlineMs: systemClock.monotonicMs() + 20_000 });
  assert.equal(found.kind, "found", JSON.stringify(found));
  assert.ok(!bench.asked.includes("a"), "it cannot be asked");
});

test("a model that is lost again and again is given up before the request's deadline", { timeout: 60_000 }, async () => {
  const { find } = openBench(
    () => false,
    () => live,
  );
  const lost = await find({ deadlineMs: systemClock.monotonicMs() + 600_000 });
  assert.deepEqual(lost, { kind: "failed", code: "pod-failed", reason: "model 'x' was lost again and again" });
});

test("it ends at the request's deadline, and when nobody waits any more", async () => {
  const { find } = openBench(
    () => false,
    () => live,
  );
  const late = await find({ deadlineMs: systemClock.monotonicMs() + 50 });
  assert.equal(late.kind === "failed" ? late.code : late.kind, "deadline-exceeded");
  const gone = await find({ signal: AbortSignal.timeout(20) });
  assert.equal(gone.kind === "failed" ? gone.code : gone.kind, "cancelled");
});

test("a load that fails is what the client hears", async () => {
  const { fleet, find } = openBench(
    () => false,
    () => ({ kind: "failed", code: "no-capacity", reason: "full" }),
  );
  fleet.detach("a");
  assert.deepEqual(await find(), { kind: "failed", code: "no-capacity", reason: "full" });
});

test("a hedge waits beside pods that are well, and is nobody's answer", async () => {
  const { asked, outlasted, hedge } = openBench(
    () => true,
    () => live,
  );
  const over = await hedge(AbortSignal.timeout(600));
  assert.deepEqual([over.kind, outlasted], ["left", ["x 1"]]);
  // Once: a pod that says nothing is not asked for each look at it.
  assert.deepEqual(asked, ["a"]);
});

test("clients that give up on a model server that says nothing do not make its model a slow one", async () => {
  const { outlasted, hedge } = openBench(
    () => false,
    () => live,
  );
  assert.deepEqual([(await hedge(AbortSignal.timeout(300))).kind, outlasted], ["left", []]);
});

test("a hedge whose pod is lost goes to another one", async () => {
  const { fleet, outlasted, hedge } = openBench(
    (podId) => podId === "b",
    () => live,
  );
  const hedged = hedge(new AbortController().signal);
  fleet.detach("a");
  fleet.change("b", [copy]);
  assert.deepEqual([(await hedged).kind, outlasted], ["found", []]);
});

test("a hedge whose first try is at a model server that was lost since goes to the next one under its address", async () => {
  const { server, hedge } = openBench(
    () => true,
    () => live,
  );
  const hedged = hedge(new AbortController().signal);
  server.lost = true;
  assert.equal((await hedged).kind, "found");
});

test("while no other has the model it is looked for again, and the lost pod may come back", async () => {
  const bench = openBench(
    () => true,
    () => {
      if (bench.asked.filter((what) => what === "ensure").length === 2) {
        const { pod } = lost;
        if (pod !== undefined) bench.fleet.attach(pod.info, [copy]);
      }
      return { kind: "failed", code: "no-capacity", reason: "full" };
    },
  );
  const lost = { pod: bench.fleet.pod("a") };
  bench.fleet.detach("a");
  const over = await bench.hedge(AbortSignal.timeout(1_500));
  // What is heard from a pod that was lost in between says nothing of the model's patience.
  assert.deepEqual([over.kind, bench.outlasted], ["left", []]);
  assert.equal(bench.asked.filter((what) => what === "ensure").length, 2);
});

test("in the end the client hears that no other has it", async () => {
  let nowMs = 0;
  const clock: Clock = { ...systemClock, monotonicMs: () => (nowMs += 1_000) };
  const { fleet, asked, hedge } = openBench(
    () => true,
    () => ({ kind: "failed", code: "no-capacity", reason: "full" }),
    clock,
  );
  fleet.detach("a");
  assert.deepEqual(await hedge(new AbortController().signal), { kind: "failed", code: "no-capacity", reason: "full" });
  assert.ok(asked.length > 3, `${asked.length}`);
});

test("a request that two model servers died of is sent to no third one", async () => {
  const bench = openBench(
    () => true,
    () => live,
  );
  for (let death = 0; death < 2; death++) {
    assert.equal((await bench.find()).kind, "found", `after ${death} deaths`);
    bench.suspects.onServerDied("a");
  }
  const found = await bench.find();
  assert.equal(found.kind === "failed" ? found.code : found.kind, "model-load-failed");
  assert.match(found.kind === "failed" ? found.reason : "", /^the model servers of a died while they were asked for it/);
});
