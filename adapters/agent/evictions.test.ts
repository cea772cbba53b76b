// Who makes room when many come at once: as ModelMesh's own tests ask it, over a holding whose gateway and model server do
// at once, or late, what they are told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRevision } from "#core/model.ts";
import type { HoldingEffect, HoldingEvent } from "./events.ts";
import { createHolding } from "./holding.ts";

const mib = 2 ** 20;

interface Server {
  /** Asked by a user, of this size. */
  ask(model: string, sizeBytes: number): void;
  step(event: HoldingEvent): void;
  /** What the model server was told to unload, and has not. */
  readonly unloading: string[];
  finishUnload(): void;
  settle(): void;
  state(model: string): string | undefined;
  readonly evicted: readonly string[];
}

/** `slowUnload`: unloads end when they are told to. */
function openServer(capacityBytes: number, options: { slowUnload?: boolean; loadConcurrency?: number } = {}): Server {
  const holding = createHolding({ capacityBytes, loadConcurrency: options.loadConcurrency ?? 2 });
  let nowMs = 1_000;
  const sizes = new Map<string, number>();
  const evicted: string[] = [];
  const unloading: string[] = [];
  const events: HoldingEvent[] = [];
  const nameOf = (key: string): string => key.slice(0, key.indexOf("@"));

  function perform(effect: HoldingEffect): void {
    if (effect.kind === "publish") {
      for (const { model, state } of effect.changes) if (state === "leaving") evicted.push(model);
      if (effect.withdraw) events.push({ kind: "withdraw-acked", gatewayId: "g", sequence: effect.sequence });
    } else if (effect.kind === "load") {
      events.push({ kind: "loaded", key: effect.key, sizeBytes: sizes.get(nameOf(effect.key)) ?? 0, measured: true });
    } else if (effect.kind === "unload") {
      if (options.slowUnload === true) unloading.push(effect.key);
      else events.push({ kind: "unloaded", key: effect.key });
    }
  }

  function run(): void {
    for (let event = events.shift(); event !== undefined; event = events.shift()) {
      nowMs += 1;
      for (const effect of holding.step(event, nowMs)) perform(effect);
    }
  }

  const server: Server = {
    ask(model, sizeBytes) {
      sizes.set(model, sizeBytes);
      const parsed = parseRevision({ id: "r1", slot: 0, format: "onnx", storageUri: "file:///m", sizeHintBytes: sizeBytes });
      assert.ok(parsed.kind === "ok");
      const asked = { gatewayId: "g", model, revision: parsed.revision, serverName: model } as const;
      events.push({ kind: "load-asked", ...asked, loadClass: "waiting-user", waitMs: 60_000, idleMs: 0 });
    },
    step(event) {
      events.push(event);
    },
    unloading,
    finishUnload() {
      const key = unloading.shift();
      assert.ok(key !== undefined);
      events.push({ kind: "unloaded", key });
      run();
    },
    settle: run,
    state: (model) => holding.view(`${model}@r1`)?.state,
    evicted,
  };
  server.step({ kind: "gateway-attached", gatewayId: "g" });
  server.step({ kind: "server-up", held: [] });
  run();
  return server;
}

/** As many as fit, the oldest first. */
function fill(server: Server, count: number, sizeBytes: number): readonly string[] {
  const names = Array.from({ length: count }, (_, at) => `old-${at}`);
  for (const name of names) {
    server.ask(name, sizeBytes);
    server.settle();
    assert.equal(server.state(name), "ready", name);
  }
  return names;
}

test("ten that come at once make exactly the ten oldest leave", () => {
  const server = openServer(1_024 * mib);
  const old = fill(server, 20, 50 * mib);
  assert.deepEqual(server.evicted, []);
  for (let at = 0; at < 10; at++) server.ask(`new-${at}`, 50 * mib);
  server.settle();
  assert.deepEqual(new Set(server.evicted), new Set(old.slice(0, 10)));
  assert.equal(server.evicted.length, 10);
  for (let at = 0; at < 10; at++) assert.equal(server.state(`new-${at}`), "ready");
});

test("ten that come while five others are unregistered make the five oldest leave, and no more", () => {
  const server = openServer(1_024 * mib);
  const old = fill(server, 20, 50 * mib);
  const dropped = old.slice(10, 15);
  for (const name of dropped) server.step({ kind: "dropped", key: `${name}@r1` });
  for (let at = 0; at < 10; at++) server.ask(`new-${at}`, 50 * mib);
  server.settle();
  assert.deepEqual(new Set(server.evicted), new Set([...dropped, ...old.slice(0, 5)]));
  assert.equal(server.evicted.length, 10);
  for (let at = 0; at < 10; at++) assert.equal(server.state(`new-${at}`), "ready");
});

test("a large one makes as many of the oldest leave as it needs, and not one more", () => {
  const server = openServer(1_000 * mib);
  const old = fill(server, 19, 50 * mib);
  server.ask("large", 160 * mib);
  server.settle();
  assert.equal(server.state("large"), "ready");
  // 50 MiB were free, and the room kept for the next small one is no reason to give up a large one.
  assert.deepEqual(server.evicted, old.slice(0, 3));
});

test("a load whose room comes by an unload waits for that unload, and only the oldest leaves for it", () => {
  const server = openServer(1_000 * mib, { slowUnload: true });
  const old = fill(server, 20, 50 * mib);
  server.ask("new", 50 * mib);
  server.settle();
  assert.deepEqual([server.state("new"), server.evicted], ["queued", [old[0]]]);
  server.finishUnload();
  assert.equal(server.state("new"), "ready");
  assert.deepEqual(server.evicted, [old[0]]);
});
