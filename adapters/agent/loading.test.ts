// A load by itself: whose time each part of it is, and what does not hold it up.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRevision } from "#core/model.ts";
import { createManualClock, systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import type { KillMark, KillMeter } from "../drivers/memory/kills.ts";
import { createFakeServer } from "../testing/driver.ts";
import { createTimesWatch } from "../times.ts";
import type { HoldingEffect } from "./events.ts";
import { createKeptArtefacts } from "./kept.ts";
import { createLives } from "./lives.ts";
import { createLoader } from "./loading.ts";
import { createTurns } from "./turns.ts";
import type { LoadTimes, LoadWatch } from "./watch.ts";
import { noWatch } from "./watch.ts";

function effectOf(): Extract<HoldingEffect, { kind: "load" }> {
  const parsed = parseRevision({ id: "r1", slot: 0, format: "onnx", storageUri: "file:///a", sizeHintBytes: 1 });
  assert.ok(parsed.kind === "ok");
  const what = { key: "a@r1", serverName: "a", revision: parsed.revision, loadClass: "waiting-user" } as const;
  return { kind: "load", ...what, reservedBytes: 1, queuedMs: 7, traceparent: undefined };
}

const noKills: KillMark = { killed: async () => false, [Symbol.asyncDispose]: async () => undefined };

test("what watches for deaths is looked up beside the pull, and the model server is not asked before", async () => {
  const found = Promise.withResolvers<KillMark>();
  const kills: KillMeter = { prepare: () => undefined, renew: () => undefined, mark: () => found.promise };
  const clock = createManualClock();
  const story: string[] = [];
  const told: LoadTimes[] = [];
  const times = createTimesWatch(
    () => clock.monotonicMs(),
    (all) => void told.push(all),
  );
  const server = createFakeServer();
  await using driver = server.openDriver(systemClock);
  const turns = createTurns((key) => {
    story.push("waits for its turn");
    clock.advance(20);
    turns.admit(key);
  });
  const loader = createLoader({
    driver: {
      ...driver,
      async load(request) {
        clock.advance(30);
        return await driver.load(request);
      },
      memoryBytes: async () => 5,
    },
    kills,
    puller: {
      probe: async () => ({ kind: "ok", sizeBytes: 1 }),
      async pull() {
        clock.advance(10);
        return { kind: "ok", path: "/fake/good", sizeBytes: 1, release: async () => undefined };
      },
    },
    clock: systemClock,
    log: silentLog,
    watch: {
      ...noWatch,
      loadStarts(load): LoadWatch {
        const of = times.loadStarts(load);
        return {
          step(name) {
            story.push(`${name} begins`);
            const end = of.step(name);
            return (failure) => {
              story.push(`${name} ends`);
              end(failure);
            };
          },
          end(end) {
            story.push(end.kind);
            of.end(end);
          },
        };
      },
    },
    lives: createLives(),
    turns,
    onStall: () => undefined,
    artefacts: createKeptArtefacts(),
    stop: new AbortController().signal,
    loadTimeoutMs: 10_000,
    async memoryBytes() {
      clock.advance(40);
      return 5;
    },
  });
  const loaded = loader.load(effectOf());
  await waitFor(() => story.includes("waits for its turn"));
  await new Promise(setImmediate);
  assert.deepEqual(story, ["pull begins", "pull ends", "turn begins", "waits for its turn"]);
  assert.deepEqual(server.calls, []);
  found.resolve(noKills);
  assert.equal((await loaded).kind, "loaded");
  const rest = ["turn ends", "server begins", "server ends", "measure begins", "measure ends", "ok"];
  assert.deepEqual(story, ["pull begins", "pull ends", "turn begins", "waits for its turn", ...rest]);
  assert.deepEqual(told, [{ model: "a", revision: "r1", queue: 7, pull: 10, turn: 20, server: 30, measure: 40 }]);
});

test("a load that is lost while it is measured is told of once, as a failure", async () => {
  const lives = createLives();
  const ends: string[] = [];
  const server = createFakeServer();
  await using driver = server.openDriver(systemClock);
  const turns = createTurns((key) => turns.admit(key));
  const loader = createLoader({
    driver: { ...driver, memoryBytes: async () => 5 },
    puller: {
      probe: async () => ({ kind: "ok", sizeBytes: 1 }),
      pull: async () => ({ kind: "ok", path: "/fake/good", sizeBytes: 1, release: async () => undefined }),
    },
    clock: systemClock,
    log: silentLog,
    watch: { ...noWatch, loadStarts: () => ({ step: () => () => undefined, end: ({ kind }) => void ends.push(kind) }) },
    lives,
    turns,
    onStall: () => undefined,
    artefacts: createKeptArtefacts(),
    stop: new AbortController().signal,
    loadTimeoutMs: 10_000,
    async memoryBytes() {
      lives.end("it died")();
      return undefined;
    },
  });
  assert.equal((await loader.load(effectOf())).kind, "load-failed");
  assert.deepEqual(ends, ["failed"]);
});
