import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseModelName, parseRevision } from "#core/model.ts";
import { sleep, systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { createRecordingLog, waitFor } from "#platform/testing.ts";
import type { Puller } from "../pull/puller.ts";
import { createFakeServer } from "../testing/driver.ts";
import { createAgent } from "./agent.ts";
import type { HoldingEffect } from "./events.ts";
import { createHolding, type Holding } from "./holding.ts";

const puller: Puller = {
  probe: async () => ({ kind: "ok", sizeBytes: 1 }),
  pull: async () => ({ kind: "ok", path: "/fake/good", sizeBytes: 1, release: async () => undefined }),
};

describe("the agent", () => {
  test("ends when the holding contradicts itself, rather than going on", async () => {
    const holding = createHolding({ capacityBytes: 100 });
    const parsed = parseRevision({ id: "r1", slot: 0, format: "onnx", storageUri: "file:///a" });
    assert.ok(parsed.kind === "ok");
    const broken: Holding = {
      step(event, nowMs): readonly HoldingEffect[] {
        if (event.kind === "probed") throw new Error("a copy cannot go from here to there");
        if (event.kind === "tick") return [{ kind: "probe", key: "a@r1", serverName: "a", revision: parsed.revision }];
        return holding.step(event, nowMs);
      },
      nextDueMs: () => undefined,
      views: () => [],
      view: () => undefined,
      gauges: (nowMs) => holding.gauges(nowMs),
    };
    const server = createFakeServer();
    await using driver = server.openDriver(systemClock);
    const agent = createAgent({
      holding: broken,
      driver,
      puller,
      clock: systemClock,
      log: silentLog,
      onMessage: () => undefined,
    });
    const stop = new AbortController();
    const run = agent.run(stop.signal);
    await agent.up;
    agent.post({ kind: "tick" });
    await assert.rejects(run, /cannot go from here to there/);
    stop.abort();
  });

  test("starts other loads while a pull stands still, and takes it up again when it moves", async () => {
    const parsed = parseRevision({ id: "r1", slot: 0, format: "onnx", storageUri: "file:///a", sizeHintBytes: 1 });
    assert.ok(parsed.kind === "ok");
    const { revision } = parsed;
    const goOn = Promise.withResolvers<void>();
    const fast = await puller.pull(revision, AbortSignal.timeout(1_000));
    const pulls: string[] = [];
    const server = createFakeServer();
    await using driver = server.openDriver(systemClock);
    const holding = createHolding({ capacityBytes: 1_000, loadConcurrency: 1 });
    const agent = createAgent({
      holding,
      driver,
      puller: {
        ...puller,
        async pull({ storageUri }) {
          pulls.push(storageUri);
          if (storageUri === "file:///hangs") await goOn.promise;
          return fast;
        },
      },
      clock: systemClock,
      log: silentLog,
      onMessage: () => undefined,
      progress: { everyMs: 20 },
    });
    const stop = new AbortController();
    const run = agent.run(stop.signal);
    await using ending = new AsyncDisposableStack();
    ending.defer(async () => {
      stop.abort();
      await run;
    });
    await agent.up;
    agent.post({ kind: "gateway-attached", gatewayId: "g" });
    const ask = (model: string): void => {
      const of = { ...revision, storageUri: `file:///${model}` };
      const asked = { gatewayId: "g", model, revision: of, serverName: model, waitMs: 10_000, idleMs: 0 };
      agent.post({ kind: "load-asked", loadClass: "waiting-user", ...asked });
    };
    const state = (model: string): string | undefined => holding.view(`${model}@r1`)?.state;
    for (const model of ["hangs", "a", "b"]) ask(model);
    assert.equal(state("a"), "queued");
    await waitFor(() => state("a") === "ready" && state("b") === "ready");
    assert.equal(state("hangs"), "loading");
    goOn.resolve();
    await waitFor(() => state("hangs") === "ready");
    assert.deepEqual(pulls, ["file:///hangs", "file:///a", "file:///b"]);
  });

  test("a load has as long as the model server says, whatever the adapter was told", async () => {
    const parsed = parseRevision({ id: "r1", slot: 0, format: "onnx", storageUri: "file:///a", sizeHintBytes: 1 });
    assert.ok(parsed.kind === "ok");
    const { revision } = parsed;
    for (const [loadTimeoutMs, told, state] of [
      [60_000, 50, "failed"],
      [50, 60_000, "ready"],
    ] as const) {
      const server = createFakeServer();
      await using driver = Object.assign(server.openDriver(systemClock), { limits: () => ({ loadTimeoutMs: told }) });
      const holding = createHolding({ capacityBytes: 1_000 });
      const slow: Puller = {
        ...puller,
        async pull(artefact, signal) {
          await sleep(200, signal);
          return await puller.pull(artefact, signal);
        },
      };
      const parts = { holding, driver, puller: slow, clock: systemClock, log: silentLog, loadTimeoutMs };
      const agent = createAgent({ ...parts, onMessage: () => undefined });
      const stop = new AbortController();
      const run = agent.run(stop.signal);
      await agent.up;
      agent.post({ kind: "gateway-attached", gatewayId: "g" });
      const asked = { gatewayId: "g", model: "a", revision, serverName: "a", waitMs: 10_000, idleMs: 0 };
      agent.post({ kind: "load-asked", loadClass: "waiting-user", ...asked });
      await waitFor(() => holding.view("a@r1")?.state === state);
      stop.abort();
      await run;
    }
  });

  test("says aloud what the model server asks for and does not get", async () => {
    const server = createFakeServer();
    await using driver = server.openDriver(systemClock);
    const limited = Object.assign(driver, { limits: () => ({ unheeded: ["limitModelConcurrency"] }) });
    const log = createRecordingLog();
    const holding = createHolding({ capacityBytes: 100 });
    const agent = createAgent({ holding, driver: limited, puller, clock: systemClock, log, onMessage: () => undefined });
    const stop = new AbortController();
    const run = agent.run(stop.signal);
    await agent.up;
    stop.abort();
    await run;
    const warned = log.lines.filter(({ level }) => level === "warn");
    assert.deepEqual(
      warned.map(({ keys }) => keys["asked"]),
      [["limitModelConcurrency"]],
    );
  });

  test("performs what an effect brings about after the effects before it", async () => {
    const told: string[] = [];
    const holding = createHolding({ capacityBytes: 100 });
    const server = createFakeServer();
    await using driver = server.openDriver(systemClock);
    const step = (kind: string): HoldingEffect => ({
      kind: "refuse",
      gatewayId: "g",
      model: kind,
      revision: "r1",
      why: "no-room",
      reason: "",
    });
    const scripted: Holding = {
      ...holding,
      step: (event) =>
        event.kind === "tick" ? [step("first"), step("second")] : event.kind === "stopping" ? [step("third")] : [],
      nextDueMs: () => undefined,
    };
    const agent = createAgent({
      holding: scripted,
      driver,
      puller,
      clock: systemClock,
      log: silentLog,
      onMessage(message): void {
        if (message.kind !== "refuse") return;
        told.push(message.model);
        if (message.model === "first") agent.post({ kind: "stopping" });
      },
    });
    agent.post({ kind: "tick" });
    assert.deepEqual(told, ["first", "second", "third"]);
  });

  test("keeps the artefact of a copy until it is unloaded, if the model server may read it again", async () => {
    const released: string[] = [];
    const leasing: Puller = {
      ...puller,
      pull: async ({ storageUri }) => ({
        kind: "ok",
        path: "/fake/good",
        sizeBytes: 1,
        release: async () => void released.push(storageUri),
      }),
    };
    const server = createFakeServer();
    const holding = createHolding({ capacityBytes: 100, minAgeMs: 0 });
    await using driver = server.openDriver(systemClock);
    const keeping = { ...driver, keepsArtefact: true, alive: () => driver.alive() };
    const agent = createAgent({
      holding,
      driver: keeping,
      puller: leasing,
      clock: systemClock,
      log: silentLog,
      onMessage: () => undefined,
    });
    const stop = new AbortController();
    const run = agent.run(stop.signal);
    await agent.up;
    const ask = (name: string): void => {
      const model = parseModelName(name);
      const revision = parseRevision({ id: "r1", slot: 0, format: "fake", storageUri: `file:///${name}`, sizeHintBytes: 100 });
      assert.ok(model.kind === "ok" && revision.kind === "ok");
      const asked = { gatewayId: "g", model: model.name, revision: revision.revision, serverName: name };
      agent.post({ kind: "load-asked", ...asked, loadClass: "waiting-user", waitMs: 10_000, idleMs: 0 });
    };
    ask("a");
    await waitFor(() => holding.view("a@r1")?.state === "ready");
    assert.deepEqual(released, []);
    // Only one fits.
    ask("b");
    await waitFor(() => holding.view("b@r1")?.state === "ready");
    assert.deepEqual(released, ["file:///a"]);
    server.kill();
    await waitFor(() => released.length === 2);
    assert.deepEqual(released, ["file:///a", "file:///b"]);
    stop.abort();
    await run;
  });
});
