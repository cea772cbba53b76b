import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type Model } from "#core/model.ts";
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { type Copies, createCopies } from "./copies.ts";
import { createDecisions } from "./decisions.ts";
import { createDrops } from "./drops.ts";
import { type Copy, type CopyFailure, createFleet, type Fleet, type PodInfo } from "./fleet.ts";
import { createPlacements } from "./placements.ts";
import { createSuspects } from "./suspects.ts";
import { modelOf, podInfo } from "./testing.ts";

interface Bench extends Disposable {
  readonly fleet: Fleet;
  readonly copies: Copies;
  /** "load pod model class", "cancel pod model", "drop pod model". */
  readonly sent: string[];
  readonly models: Map<string, Model>;
  /** Moves timers and clock alike. */
  pass(ms: number): void;
  home: boolean;
}

/** `onTry`: told of each placement. */
function openBench(t: TestContext, onTry: () => void = () => undefined): Bench {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let nowMs = 0;
  const clock = { ...systemClock, monotonicMs: () => nowMs };
  const sent: string[] = [];
  const models = new Map<string, Model>([["x", modelOf("x")]]);
  const fleet = createFleet(
    {
      onCopies: (podId, changes) => copies.onCopies(podId, changes),
      onPod: (podId) => copies.onPod(podId),
    },
    clock,
  );
  const copies = createCopies({
    fleet,
    placements: createPlacements(fleet, clock, { onPlaced: onTry }),
    suspects: createSuspects(clock),
    decisions: createDecisions(clock),
    clock,
    log: silentLog,
    findModel: (name) => models.get(name),
    isHome: () => bench.home,
    sendLoad: (podId, model, _, { loadClass }) => sent.push(`load ${podId} ${model} ${loadClass}`),
    cancelLoad: (podId, model) => sent.push(`cancel ${podId} ${model}`),
    drops: createDrops({ fleet, clock, sendDrop: (podId, model) => sent.push(`drop ${podId} ${model}`) }),
  });
  const bench: Bench = {
    fleet,
    copies,
    sent,
    models,
    home: true,
    pass(ms) {
      nowMs += ms;
      t.mock.timers.tick(ms);
    },
    [Symbol.dispose]: () => copies[Symbol.dispose](),
  };
  return bench;
}

const onNode = (podId: string, node: string): PodInfo => podInfo(podId, { labels: { "kubernetes.io/hostname": node } });

function copy(state: Copy["state"], failure?: CopyFailure): Copy {
  return { model: "x", revision: "r1", slot: 0, state, sizeBytes: 1_000, ...(failure === undefined ? {} : { failure }) };
}

const podOf = (line: string | undefined): string => line?.split(" ")[1] ?? "none";

test("as many copies as are wanted are asked for, each of another pod, on other nodes first", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent } = bench;
  fleet.attach(onNode("a1", "n1"), [copy("ready")]);
  fleet.attach(onNode("a2", "n1"), []);
  fleet.attach(onNode("b1", "n2"), []);
  copies.want("x", "r1", 2, "scale-up");
  assert.deepEqual(sent, ["load b1 x scale-up"]);
  copies.want("x", "r1", 2, "scale-up");
  copies.want("x", "r1", 3, "scale-up", { by: "another" });
  assert.deepEqual(sent.slice(1), ["load a2 x scale-up"]);
  assert.deepEqual(copies.state("x", "r1"), { ready: 1, underWay: 2 });
  fleet.change("b1", [copy("loading")]);
  fleet.change("b1", [copy("ready")]);
  fleet.change("a2", [copy("ready")]);
  assert.deepEqual(copies.state("x", "r1"), { ready: 3, underWay: 0 });
  assert.equal(sent.length, 2);
});

test("a copy that is lost, on a pod that goes, cannot be reached or is being emptied, is made up for", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent } = bench;
  for (const podId of ["a", "b", "c", "d", "e"]) fleet.attach(podInfo(podId), []);
  copies.want("x", "r1", 1, "ensure");
  const losses: readonly ((podId: string) => void)[] = [
    (podId) => fleet.detach(podId),
    (podId) => fleet.setUnreachable(podId),
    (podId) => fleet.setDraining(podId),
    (podId) => fleet.change(podId, [{ ...copy("ready"), state: "gone" }]),
  ];
  for (const [at, lose] of losses.entries()) {
    fleet.change(podOf(sent[at]), [copy("ready")]);
    assert.equal(sent.length, at + 1);
    lose(podOf(sent[at]));
    assert.equal(sent.length, at + 2, `after loss ${at}`);
  }
});

test("a pod that fails or refuses is passed over; with none left it waits for one, or for a while", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent } = bench;
  fleet.attach(podInfo("a"), []);
  fleet.attach(podInfo("b"), []);
  copies.want("x", "r1", 1, "scale-up");
  const first = podOf(sent[0]);
  fleet.change(first, [copy("failed", { kind: "pod", reason: "out of memory" })]);
  const second = podOf(sent[1]);
  assert.notEqual(first, second);
  copies.onRefused(second, "x", "r1", "no-capacity", "all pinned");
  assert.equal(sent.length, 2);
  assert.deepEqual(copies.state("x", "r1").failure, { kind: "failed", code: "no-capacity", reason: "all pinned" });
  fleet.attach(podInfo("c"), []);
  bench.pass(5_000);
  assert.deepEqual(sent.slice(2), ["load c x scale-up"]);
  fleet.change("c", [copy("ready")]);
  assert.deepEqual(copies.state("x", "r1"), { ready: 1, underWay: 0 });
});

test("an outage of the storage for two minutes heals by itself, with growing pauses in between", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent } = bench;
  fleet.attach(podInfo("a"), []);
  copies.want("x", "r1", 1, "ensure");
  let asked = 0;
  for (let second = 0; second < 120; second++) {
    if (sent.length > asked) fleet.change("a", [copy("failed", { kind: "storage", reason: "503" })]);
    asked = sent.length;
    bench.pass(1_000);
  }
  assert.ok(asked >= 5 && asked <= 12, `${asked} tries`);
  assert.equal(copies.state("x", "r1").failure?.code, "storage-unavailable");
  bench.pass(30_000);
  assert.ok(sent.length > asked);
  fleet.change("a", [copy("ready")]);
  assert.deepEqual(copies.state("x", "r1"), { ready: 1, underWay: 0 });
});

test("a pod that never answers is passed over", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent } = bench;
  fleet.attach(podInfo("a"), []);
  fleet.attach(podInfo("b"), []);
  copies.want("x", "r1", 1, "ensure");
  bench.pass(300_000);
  assert.equal(new Set(sent.map(podOf)).size, 2);
});

test("another gateway's wants rest until this one is the home", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent } = bench;
  bench.home = false;
  fleet.attach(podInfo("a"), []);
  copies.want("x", "r1", 1, "ensure");
  fleet.attach(podInfo("b"), []);
  assert.deepEqual(sent, []);
  bench.home = true;
  copies.onMembers();
  assert.equal(sent.length, 1);
});

test("what is wanted no more is not loaded, and a model that comes later is", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent, models } = bench;
  fleet.attach(podInfo("a"), []);
  copies.want("x", "r1", 1, "ensure", { by: "one" });
  copies.want("x", "r1", 1, "ensure", { by: "two" });
  copies.unwant("x", "r1", "one");
  assert.deepEqual(sent, ["load a x ensure"]);
  copies.unwant("x", "r1", "two");
  assert.deepEqual(sent.slice(1), ["cancel a x"]);
  assert.equal(copies.wants, 0);
  copies.want("y", "r1", 1, "ensure");
  assert.equal(sent.length, 2);
  models.set("y", modelOf("y", { maxCopies: 1 }));
  copies.onModel("y");
  assert.deepEqual(sent.slice(2), ["load a y ensure"]);
});

test("more than maxCopies are never asked for, and shrinking leaves what is wanted", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent, models } = bench;
  models.set("x", modelOf("x", { maxCopies: 2 }));
  for (const podId of ["a", "b", "c"]) fleet.attach(podInfo(podId), [copy("ready")]);
  fleet.attach(podInfo("d"), []);
  copies.want("x", "r1", 9, "scale-up");
  assert.deepEqual(sent, []);
  copies.shrink("x", "r1", 1);
  assert.deepEqual(sent, ["drop c x"]);
});

test("a copy that was asked to leave counts as gone: it is not asked twice, and no other goes in its place", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent } = bench;
  for (const podId of ["a", "b"]) fleet.attach(podInfo(podId), [copy("ready")]);
  copies.shrink("x", "r1", 1);
  copies.shrink("x", "r1", 1);
  assert.deepEqual(sent.splice(0), ["drop b x"]);
  assert.equal(copies.state("x", "r1").ready, 1);
  bench.pass(10_000);
  copies.shrink("x", "r1", 1);
  assert.deepEqual(sent, ["drop b x"], "which it has not heard of");
});

test("pods are told when a model's copies are to stay, and when they need not any more", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent, models } = bench;
  fleet.attach(podInfo("a"), [copy("ready")]);
  copies.onModel("x");
  assert.deepEqual(sent, []);
  models.set("x", modelOf("x", { pinned: true }));
  copies.onModel("x");
  copies.onModel("x");
  assert.deepEqual(sent, ["load a x proactive"]);
  models.set("x", modelOf("x"));
  copies.onModel("x");
  assert.equal(sent.length, 2);
});

test("a pod whose adapter started anew is told once more, and once, which of the copies that it found are to stay", (t) => {
  using bench = openBench(t);
  const { fleet, copies, sent, models } = bench;
  models.set("x", modelOf("x", { pinned: true }));
  copies.onModel("x");
  fleet.attach(podInfo("a"), [copy("ready")]);
  assert.deepEqual(sent, ["load a x proactive"]);
  // As the adapter answers.
  fleet.change("a", [copy("ready")]);
  assert.equal(sent.length, 1);
  fleet.setUnreachable("a");
  fleet.attach(podInfo("a", { incarnation: "2" }), [copy("ready")]);
  assert.equal(sent.length, 2);
  // One that is found after the adapter was linked.
  fleet.change("a", [{ ...copy("ready"), state: "gone" }]);
  fleet.change("a", [copy("ready")]);
  assert.equal(sent.length, 3);
  bench.home = false;
  fleet.attach(podInfo("b"), [copy("ready")]);
  assert.equal(sent.length, 3);
  bench.home = true;
  copies.onMembers();
  assert.deepEqual(sent.slice(3), ["load b x proactive"]);
});

test("wants that no pod can take are tried with growing pauses, however many they are", (t) => {
  let tries = 0;
  using bench = openBench(t, () => void (tries += 1));
  const { copies, models } = bench;
  for (let n = 0; n < 10_010; n++) {
    models.set(`m${n}`, modelOf(`m${n}`));
    copies.want(`m${n}`, "r1", 1, "ensure");
  }
  bench.pass(260);
  assert.equal(tries, 20_020);
  bench.pass(260);
  assert.equal(tries, 20_020);
});
