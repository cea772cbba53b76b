import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type Model, parseModel } from "#core/model.ts";
import { defaultScalingPolicy } from "#core/scaling.ts";
import { createManualClock, type ManualClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { type Copies, createCopies } from "./copies.ts";
import { createDecisions } from "./decisions.ts";
import { createDrops } from "./drops.ts";
import { createFleet, type Fleet } from "./fleet.ts";
import { createPlacements } from "./placements.ts";
import { createRates, type Rates } from "./rates.ts";
import { createScaler, type Scaler, ticksPerSecond } from "./scaler.ts";
import { createSuspects } from "./suspects.ts";
import { podInfo } from "./testing.ts";

interface Bench extends Disposable {
  readonly fleet: Fleet;
  readonly scaler: Scaler;
  readonly rates: Rates;
  /** Models whose records were looked at, and those whose copies were counted. */
  readonly looked: string[];
  readonly counted: string[];
  readonly models: Map<string, Model>;
  /** Pods that were asked for copies of `x`, and told to drop them. */
  readonly loads: string[];
  readonly drops: string[];
  /** Seconds of this demand, each followed by a decision; loads are over at once. */
  run(seconds: number, requestsPerSecond: number, busyMs?: number, weight?: number): void;
  home: boolean;
  /** The part of the requests that have waited for a load. */
  waited: number;
  /** Copies that somebody asked for. */
  wished: number;
}

function openBench(t: TestContext, pods = 4): Bench {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const clock: ManualClock = createManualClock();
  const loads: string[] = [];
  const drops: string[] = [];
  const models = new Map<string, Model>([["x", modelOf()]]);
  const fleet = createFleet(
    { onCopies: (podId, changes) => copies.onCopies(podId, changes), onPod: (podId) => copies.onPod(podId) },
    clock,
  );
  const rates: Rates = createRates(clock);
  const decisions = createDecisions(clock);
  const looked: string[] = [];
  const counted: string[] = [];
  const findModel = (name: string): Model | undefined => {
    looked.push(name);
    return models.get(name);
  };
  const wishedOf = (name: string): number => {
    counted.push(name);
    return bench.wished;
  };
  const shared = { fleet, decisions, clock, findModel, isHome: () => bench.home };
  const copies: Copies = createCopies({
    ...shared,
    placements: createPlacements(fleet, clock),
    suspects: createSuspects(clock),
    log: silentLog,
    sendLoad: (podId) => void loads.push(podId),
    cancelLoad: () => undefined,
    drops: createDrops({ fleet, clock, sendDrop: (podId) => void drops.push(podId) }),
  });
  const scaler = createScaler({ ...shared, copies, rates, policy: defaultScalingPolicy, wishedOf });
  const bench: Bench = {
    fleet,
    scaler,
    rates,
    looked,
    counted,
    models,
    loads,
    drops,
    home: true,
    waited: 0,
    wished: 0,
    run(seconds, requestsPerSecond, busyMs = 0, weight = 1) {
      for (let second = 0; second < seconds; second++) {
        const use = {
          model: "x",
          requests: requestsPerSecond,
          answered: requestsPerSecond,
          waited: requestsPerSecond * bench.waited,
          busyMs,
          weight,
          misses: 0,
          idleMs: 0,
        };
        if (requestsPerSecond > 0) rates.add([use]);
        clock.advance(1_000);
        const asked = loads.length;
        for (let tick = 0; tick < ticksPerSecond; tick++) scaler.tick();
        for (const podId of loads.slice(asked)) fleet.change(podId, [ready]);
        for (const podId of drops.splice(0)) fleet.change(podId, [{ ...ready, state: "gone" }]);
      }
    },
    [Symbol.dispose]: () => copies[Symbol.dispose](),
  };
  for (let pod = 0; pod < pods; pod++) fleet.attach(podInfo(`p${pod}`), pod === 0 ? [ready] : []);
  return bench;
}

const ready = { model: "x", revision: "r1", slot: 0, state: "ready", sizeBytes: 1_000 } as const;

function modelOf(more: object = {}): Model {
  const revision = { id: "r1", slot: 0, format: "onnx", storageUri: "file:///m.onnx" };
  const parsed = parseModel({ name: "x", revisions: [revision], active: "r1", ...more });
  return parsed.kind === "ok" ? parsed.model : assert.fail(parsed.reason);
}

const held = ({ fleet }: Bench): number => Array.from(fleet.holders("x")).length;

test("more copies are asked for within two seconds of the demand, by rate and by concurrency", (t) => {
  using bench = openBench(t);
  bench.run(2, 550);
  assert.equal(held(bench), 3);
  bench.run(2, 10, 30_000);
  assert.equal(held(bench), 4);
});

test("requests that have waited for a load are a backlog: they bring no further copy, and those that come after them do", (t) => {
  using bench = openBench(t);
  bench.waited = 1;
  bench.run(3, 1_000);
  assert.equal(held(bench), 1);
  bench.waited = 0;
  bench.run(2, 1_000);
  assert.ok(held(bench) > 1);
});

test("a sample that stands for many requests is no demand; as many as there must be for one are", (t) => {
  using bench = openBench(t);
  for (let minute = 0; minute < 3; minute++) {
    bench.run(1, 2_048, 60_000, 2_048);
    bench.run(59, 0);
  }
  assert.equal(held(bench), 1);
  bench.run(2, 12_800, 0, 128);
  assert.equal(held(bench), 4);
});

test("a model in continuous use gets its second copy after five minutes, not before, and keeps it", (t) => {
  using bench = openBench(t);
  bench.run(298, 1);
  assert.equal(held(bench), 1);
  bench.run(5, 1);
  assert.equal(held(bench), 2);
  bench.run(600, 1);
  assert.equal(held(bench), 2);
  assert.equal(bench.loads.length, 1);
});

test("copies go two minutes after the demand, first as far as its last seconds allow, then down to one, which stays", (t) => {
  using bench = openBench(t);
  bench.run(5, 700);
  assert.equal(held(bench), 4);
  bench.run(100, 1);
  assert.equal(held(bench), 4);
  bench.run(40, 1);
  assert.ok(held(bench) < 4);
  bench.run(125, 1);
  assert.equal(held(bench), 1);
});

test("copies that the home before wanted go two minutes after the demand, too", (t) => {
  using bench = openBench(t);
  bench.run(5, 1);
  bench.home = false;
  for (const podId of ["p1", "p2"]) bench.fleet.change(podId, [ready]);
  bench.run(5, 500);
  assert.equal(bench.loads.length, 0);
  bench.home = true;
  bench.scaler.onMembers();
  bench.run(100, 1);
  assert.equal(held(bench), 3);
  bench.run(150, 1);
  assert.equal(held(bench), 1);
  // Later, two copies for a moment are a move, which is nobody's wish for two.
  bench.fleet.change("p3", [ready]);
  bench.run(1, 1);
  bench.fleet.change("p3", [{ ...ready, state: "gone" }]);
  bench.run(10, 1);
  assert.equal(bench.loads.length, 0);
});

test("copies that nobody wants any more go two minutes after the demand, whenever it is seen again", (t) => {
  using bench = openBench(t);
  // Long after its home changed, or where pods that stood still came back.
  bench.run(20, 0);
  for (const podId of ["p1", "p2"]) bench.fleet.change(podId, [ready]);
  bench.run(100, 1);
  assert.equal(held(bench), 3);
  bench.run(50, 0);
  assert.equal(held(bench), 1);
  assert.equal(bench.loads.length, 0);
});

test("copies that somebody asked for stay, whatever the demand", (t) => {
  using bench = openBench(t);
  bench.wished = 3;
  bench.run(20, 0);
  for (const podId of ["p1", "p2"]) bench.fleet.change(podId, [ready]);
  bench.run(5, 700);
  assert.equal(held(bench), 4);
  bench.run(400, 1);
  assert.equal(held(bench), 3);
  // As long as they are asked for: then they are as any others.
  bench.wished = 0;
  bench.run(200, 0);
  assert.equal(held(bench), 1);
});

test("of copies beyond what is wanted those that demand needs stay", (t) => {
  using bench = openBench(t);
  bench.run(20, 300);
  assert.equal(held(bench), 2);
  for (const podId of ["p1", "p2", "p3"]) bench.fleet.change(podId, [ready]);
  assert.equal(held(bench), 4);
  bench.run(100, 250);
  assert.equal(held(bench), 4);
  bench.run(60, 250);
  assert.equal(held(bench), 2);
  bench.run(300, 250);
  assert.equal(held(bench), 2);
  assert.equal(bench.loads.length, 1);
});

test("a second copy while one moves is nobody's surplus, however often", (t) => {
  using bench = openBench(t);
  for (let move = 0; move < 4; move++) {
    bench.run(60, 1);
    bench.fleet.change("p1", [ready]);
    bench.run(1, 1);
    bench.fleet.change("p1", [{ ...ready, state: "gone" }]);
  }
  assert.equal(held(bench), 1);
  assert.deepEqual(bench.drops, []);
});

test("maxCopies bounds them", (t) => {
  using bench = openBench(t);
  bench.models.set("x", modelOf({ maxCopies: 2 }));
  bench.run(5, 2_000);
  assert.equal(held(bench), 2);
});

test("maxCopies that changes while there are more takes them away at once", (t) => {
  using bench = openBench(t);
  bench.run(5, 2_000);
  assert.equal(held(bench), 4);
  bench.models.set("x", modelOf({ maxCopies: 2 }));
  bench.scaler.onModel("x");
  bench.run(1, 2_000);
  assert.equal(held(bench), 2);
});

test("of the models that were used a part is looked at with each tick, and each once a second", (t) => {
  using bench = openBench(t);
  const names = Array.from({ length: 10 * ticksPerSecond }, (_, at) => `m${at}`);
  const use = { requests: 1, answered: 1, waited: 0, busyMs: 1, weight: 1, misses: 0, idleMs: 0 };
  bench.rates.add(names.map((model) => ({ model, ...use })));
  for (let tick = 1; tick <= ticksPerSecond; tick++) {
    bench.scaler.tick();
    assert.equal(bench.looked.length, 10 * tick);
  }
  assert.deepEqual(bench.looked, names);
});

test("of very many models with more than one copy that nobody asks for each is looked at every ten seconds", (t) => {
  using bench = openBench(t);
  const names = Array.from({ length: 3_000 }, (_, at) => `m${at}`);
  for (const name of names) bench.models.set(name, modelOf({ name, minCopies: 2 }));
  const use = { requests: 1, answered: 1, waited: 0, busyMs: 1, weight: 1, misses: 0, idleMs: 0 };
  bench.rates.add(names.map((model) => ({ model, ...use })));
  bench.run(1, 0);
  bench.counted.length = 0;
  bench.run(1, 0);
  assert.equal(new Set(bench.counted).size, 300);
  bench.run(10, 0);
  assert.equal(new Set(bench.counted).size, 3_000);
});

test("minCopies keeps them without use, at the home alone", (t) => {
  using kept = openBench(t);
  kept.models.set("x", modelOf({ minCopies: 3 }));
  kept.home = false;
  kept.scaler.onModel("x");
  assert.equal(kept.loads.length, 0);
  kept.home = true;
  kept.models.set("x", modelOf({ minCopies: 2 }));
  kept.scaler.onModel("x");
  assert.equal(kept.loads.length, 1);
});

test("a model that is used now and then, with pauses over a minute, is in no continuous use", (t) => {
  using bench = openBench(t);
  for (let use = 0; use < 8; use++) {
    bench.run(1, 1);
    bench.run(70, 0);
  }
  assert.equal(bench.loads.length, 0);
});
