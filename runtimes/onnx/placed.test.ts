import assert from "node:assert/strict";
import { test } from "node:test";
import { choosePlace, type Moves, PlacedSession } from "./placed.ts";
import type { ModelFacts } from "./scan.ts";
import type { LoadFailure, Session } from "./session.ts";

const facts: ModelFacts = { fileBytes: 1_000, nodes: 3, weightBytes: 500, treeBytes: 0, steady: true, external: false };

const places: readonly [string, Partial<ModelFacts>, boolean, string][] = [
  ["a small graph", {}, false, "main"],
  ["one that was slow before", {}, true, "thread"],
  ["a loop", { steady: false }, false, "trial"],
  ["a megabyte of weights", { weightBytes: 1e6 }, false, "main"],
  ["two megabytes of weights", { weightBytes: 2e6 }, false, "thread"],
  ["a small forest", { treeBytes: 50_000 }, false, "main"],
  ["a forest of 20 ms", { treeBytes: 800_000 }, false, "thread"],
  ["hundreds of nodes", { nodes: 300 }, false, "thread"],
  ["weights in other files", { external: true }, false, "thread"],
];

for (const [name, more, wasSlow, place] of places) {
  test(`${name}: ${place}`, () => assert.equal(choosePlace({ ...facts, ...more }, wasSlow), place));
}

/** Sessions that tell what is done with them, and run until they are let. */
class Script {
  readonly done: string[] = [];
  readonly sessions: { readonly place: string; released: boolean; readonly pending: (() => void)[] }[] = [];
  failure: LoadFailure | undefined;

  session(place: string): Session {
    const state = { place, released: false, pending: [] as (() => void)[] };
    this.sessions.push(state);
    return {
      inputs: [],
      outputs: [],
      run: async () => {
        assert.ok(!state.released, `a run on a released session in ${place}`);
        await new Promise<void>((resolve) => state.pending.push(resolve));
        assert.ok(!state.released, `released during a run in ${place}`);
        return [];
      },
      release: async () => {
        assert.ok(!state.released && state.pending.length === 0);
        state.released = true;
        this.done.push(`released in ${place}`);
      },
    };
  }

  readonly moves: Moves = {
    open: async (place) => {
      if (this.failure !== undefined) return this.failure;
      return this.session(place);
    },
    moved: (place) => void this.done.push(`moved to ${place}`),
    stayed: (reason) => void this.done.push(`stayed: ${reason}`),
  };

  end(at: number): void {
    for (const resolve of this.sessions[at]?.pending.splice(0) ?? []) resolve();
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function times(count: number, action: () => void): void {
  for (let i = 0; i < count; i++) action();
}

test("a run of more than an instant moves the model to a thread; requests under way end where they began", async () => {
  const script = new Script();
  const placed = new PlacedSession(script.session("main"), "main", script.moves);
  const old = placed.run([], []);
  placed.ran(200);
  placed.ran(200);
  await settled();
  assert.deepEqual(script.done, ["moved to thread"]);
  const fresh = placed.run([], []);
  assert.deepEqual(
    script.sessions.map(({ place, pending }) => [place, pending.length]),
    [
      ["main", 1],
      ["thread", 1],
    ],
  );
  script.end(0);
  assert.deepEqual(await old, []);
  await settled();
  assert.deepEqual(script.done, ["moved to thread", "released in main"]);
  script.end(1);
  await fresh;
  times(100, () => placed.ran(0.01));
  await placed.release();
  assert.deepEqual(script.done, ["moved to thread", "released in main", "released in thread"]);
});

test("runs somewhat long move it when there are three in a row", async () => {
  const script = new Script();
  const placed = new PlacedSession(script.session("main"), "main", script.moves);
  for (const cpuMs of [5, 5, 0.1, 5, 5, 0.1]) placed.ran(cpuMs);
  await settled();
  assert.deepEqual(script.done, []);
  times(3, () => placed.ran(5));
  await settled();
  assert.deepEqual(script.done, ["moved to thread", "released in main"]);
});

test("a trial ends well after sixteen quick runs, and is not the last word", async () => {
  const script = new Script();
  const placed = new PlacedSession(script.session("thread"), "trial", script.moves);
  times(15, () => placed.ran(0.1));
  await settled();
  assert.deepEqual(script.done, []);
  placed.ran(0.1);
  await settled();
  assert.deepEqual(script.done, ["moved to main", "released in thread"]);
  placed.ran(100);
  await settled();
  assert.deepEqual(script.done.slice(2), ["moved to thread", "released in main"]);
});

test("a trial that shows a slow run keeps the model where it is", async () => {
  const script = new Script();
  const placed = new PlacedSession(script.session("thread"), "trial", script.moves);
  placed.ran(100);
  times(50, () => placed.ran(0.1));
  await settled();
  assert.deepEqual(script.done, ["moved to thread"]);
  assert.equal(script.sessions.length, 1);
});

for (const place of ["main", "trial"] as const) {
  test(`what cannot be moved stays, and is not tried again: from ${place}`, async () => {
    const script = new Script();
    script.failure = { kind: "storage", message: "gone" };
    const placed = new PlacedSession(script.session(place), place, script.moves);
    times(50, () => placed.ran(place === "main" ? 100 : 0.1));
    await settled();
    times(50, () => placed.ran(100));
    await settled();
    assert.deepEqual(script.done, ["stayed: gone"]);
    const run = placed.run([], []);
    script.end(0);
    assert.deepEqual(await run, []);
    await placed.release();
  });
}

test("a release waits for a move under way, and leaves nothing behind", async () => {
  const script = new Script();
  const placed = new PlacedSession(script.session("main"), "main", script.moves);
  const old = placed.run([], []);
  placed.ran(100);
  script.end(0);
  await old;
  await placed.release();
  assert.ok(script.sessions.every(({ released }) => released));
  assert.equal(script.sessions.length, 2);
});
