// Owns the contract suite of drivers: every driver passes it with its real model server, and so does the scripted one.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { waitFor } from "#platform/testing.ts";
import type { Driver, DriverListener, HeldModel } from "./driver.ts";

/** A model server under the suite's hands, and a driver of it. */
export interface DriverHarness extends AsyncDisposable {
  /** Another driver of the same model server. */
  openDriver(): Driver;
  readonly format: string;
  readonly goodPath: string;
  /** Something the model server takes for no model. */
  readonly brokenPath: string;
  readonly absentPath: string;
  /** Dies without a farewell. */
  kill(): Promise<void>;
  /** Starts anew, holding nothing. */
  revive(): Promise<void>;
  /** Answers nothing until resumed. */
  hang(): void;
  resume(): void;
  /** Drops a model behind the driver's back. Absent: the server cannot tell that, nor what it holds from before. */
  readonly forget?: (serverName: string) => Promise<void>;
  /** How long the slow answer takes: less than the silence that counts as a loss; 1,500 ms when absent. */
  readonly slowMs?: number;
  /** Something for which the model server's memory does not suffice, where that can be scripted. */
  readonly exhaustingPath?: string;
}

/** Longer than some polls of the watch. */
const usualSlowMs = 1_500;

type Told = { readonly up: readonly HeldModel[] } | { readonly lost: string };

/** Resolves when the driver has found its model server; with the end of the returned the driver is ended too. */
export async function startDriver(driver: Driver): Promise<AsyncDisposable> {
  const stop = new AbortController();
  const started = driver.start({ onUp: () => undefined, onLost: () => undefined }, stop.signal);
  await waitFor(() => driver.alive());
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await started;
      await driver[Symbol.asyncDispose]();
    },
  };
}

export function describeDriver(name: string, openHarness: () => Promise<DriverHarness>): void {
  describe(`the driver of ${name}`, { timeout: 300_000 }, () => {
    let harness: DriverHarness;
    let driver: Driver;
    let started: Promise<void>;
    const told: Told[] = [];
    const stop = new AbortController();
    const never = new AbortController().signal;
    const listener: DriverListener = { onUp: (up) => void told.push({ up }), onLost: (lost) => void told.push({ lost }) };
    const load = (serverName: string, path = harness.goodPath, revision = "r1", signal = never): ReturnType<Driver["load"]> =>
      driver.load({ serverName, revision, path, format: harness.format, expectedBytes: 1_000, signal });

    before(async () => {
      harness = await openHarness();
      driver = harness.openDriver();
      started = driver.start(listener, stop.signal);
      await waitFor(() => told.length > 0);
    });
    after(async () => {
      stop.abort();
      await started;
      await driver[Symbol.asyncDispose]();
      await harness[Symbol.asyncDispose]();
    });

    test("tells that the model server is up, and what it holds", () => {
      assert.deepEqual(told, [{ up: [] }]);
      assert.equal(driver.alive(), true);
    });

    test("loads, lists and unloads", async () => {
      const loaded = await load("m1");
      assert.ok(loaded.kind === "ok" && loaded.sizeBytes > 0);
      const { sizeBytes } = loaded;
      const again = await load("m1");
      assert.equal(again.kind === "ok" && again.sizeBytes, sizeBytes);
      const other = await load("m1~3");
      assert.ok(other.kind === "ok");
      const listed = await driver.list(never);
      assert.ok(listed.kind === "ok");
      assert.deepEqual(
        listed.held.toSorted((a, b) => (a.serverName < b.serverName ? -1 : 1)),
        [
          { serverName: "m1", revision: "r1", sizeBytes },
          // Where the server is looked at, no two are quite the same.
          { serverName: "m1~3", revision: "r1", sizeBytes: other.sizeBytes },
        ],
      );
      assert.equal(await driver.ready("m1", "r1", never), true);
      assert.equal(await driver.ready("m1", "r2", never), false);
      assert.equal(await driver.ready("m2", "r1", never), false);
      assert.deepEqual(await driver.unload("m1", never), { kind: "ok" });
      assert.deepEqual(await driver.unload("m1", never), { kind: "ok" });
      assert.equal(await driver.ready("m1", "r1", never), false);
    });

    test("says whose fault a failure is", async () => {
      const broken = await load("broken", harness.brokenPath);
      assert.ok(broken.kind === "failed");
      assert.equal(broken.failure, "model");
      assert.notEqual(broken.reason, "");
      const absent = await load("absent", harness.absentPath);
      assert.equal(absent.kind === "failed" && absent.failure, "storage");
      if (harness.exhaustingPath !== undefined) {
        const exhausting = await load("exhausting", harness.exhaustingPath);
        assert.equal(exhausting.kind === "failed" && exhausting.failure, "capacity", JSON.stringify(exhausting));
      }
      // What failed leaves nothing in the way of what comes next under its name.
      const mended = await load("broken");
      assert.equal(mended.kind, "ok", JSON.stringify(mended));
      assert.deepEqual(await driver.unload("broken", never), { kind: "ok" });
    });

    test("waits for a slow answer, and takes it for no loss", async () => {
      harness.hang();
      const slow = load("slow");
      setTimeout(() => harness.resume(), harness.slowMs ?? usualSlowMs);
      assert.equal((await slow).kind, "ok");
      assert.deepEqual(await driver.unload("slow", never), { kind: "ok" });
      assert.equal(told.length, 1);
    });

    test("another driver finds what is held already", async () => {
      const seen: Told[] = [];
      const over = new AbortController();
      await using other = harness.openDriver();
      const run = other.start({ onUp: (up) => void seen.push({ up }), onLost: (lost) => void seen.push({ lost }) }, over.signal);
      const first = await waitFor(() => seen[0]);
      over.abort();
      await run;
      const found = harness.forget === undefined ? [] : ["m1~3"];
      assert.deepEqual("up" in first && first.up.map(({ serverName }) => serverName), found);
    });

    test("notices a model that was forgotten", async () => {
      if (harness.forget === undefined) return;
      await harness.forget("m1~3");
      assert.equal(await driver.ready("m1~3", "r1", never), false);
    });

    test("gives up a call at its signal", async () => {
      harness.hang();
      try {
        await assert.rejects(load("m9", harness.goodPath, "r1", AbortSignal.timeout(50)), { name: "TimeoutError" });
        await assert.rejects(driver.unload("m9", AbortSignal.timeout(20)), { name: "TimeoutError" });
        await assert.rejects(driver.ready("m9", "r1", AbortSignal.abort(new Error("no more"))), /no more/);
        assert.equal(driver.alive(), true);
      } finally {
        harness.resume();
      }
      await waitFor(async () => (await driver.list(never)).kind === "ok");
      await driver.unload("m9", never);
    });

    test("tells a death at once, a new life with what it holds, and loads again", async () => {
      await load("m1");
      harness.hang();
      const dying = load("m2");
      await harness.kill();
      const failed = await dying;
      assert.equal(failed.kind === "failed" && failed.failure, "pod");
      await waitFor(() => told.length === 2);
      assert.ok("lost" in (told[1] ?? {}));
      assert.equal(driver.alive(), false);
      const refused = await load("m1");
      assert.equal(refused.kind === "failed" && refused.failure, "pod");
      await harness.revive();
      await waitFor(() => told.length === 3);
      assert.deepEqual(told[2], { up: [] });
      assert.equal((await load("m1")).kind, "ok");
    });

    test("takes a fast restart for what it is", async () => {
      await harness.kill();
      await harness.revive();
      await waitFor(() => told.length === 5);
      assert.ok("lost" in (told[3] ?? {}));
      assert.deepEqual(told[4], { up: [] });
    });

    test("ends its watch at the signal, with nothing more to tell", async () => {
      stop.abort();
      await started;
      assert.equal(told.length, 5);
    });
  });
}
