// What all drivers of foreign model servers owe to it, over a server that is only a few promises: one thing at a time under a
// name, whoever gives up.
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { sleep, systemClock } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { createForeignDriver } from "./foreign.ts";
import type { Done, ForeignServer } from "./foreignserver.ts";
import { createRecord } from "./record.ts";

interface Bench {
  readonly server: ForeignServer;
  /** What the server was asked, in order: `load m`, `load m done`, ... */
  readonly log: string[];
  readonly held: Set<string>;
  /** Each call waits for the next one of these. */
  finish(): void;
  readonly overlaps: readonly string[];
}

function createBench(): Bench {
  const log: string[] = [];
  const held = new Set<string>();
  const underWay = new Map<string, number>();
  const overlaps: string[] = [];
  let waiting: (() => void)[] = [];
  const call = async (what: string, name: string, done: () => void): Promise<Done> => {
    log.push(`${what} ${name}`);
    underWay.set(name, (underWay.get(name) ?? 0) + 1);
    if ((underWay.get(name) ?? 0) > 1) overlaps.push(name);
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.push(resolve);
    await promise;
    underWay.set(name, (underWay.get(name) ?? 0) - 1);
    done();
    log.push(`${what} ${name} done`);
    return { kind: "ok" };
  };
  return {
    log,
    held,
    overlaps,
    finish(): void {
      const all = waiting;
      waiting = [];
      for (const resolve of all) resolve();
    },
    server: {
      keepsArtefact: false,
      address: "127.0.0.1:1",
      http2: false,
      ready: async (name) => held.has(name),
      load: ({ serverName }) => call("load", serverName, () => void held.add(serverName)),
      unload: (serverName) => call("unload", serverName, () => void held.delete(serverName)),
      [Symbol.asyncDispose]: async () => undefined,
    },
  };
}

const never = new AbortController().signal;

async function withDriver(work: (bench: Bench, driver: ReturnType<typeof createForeignDriver>) => Promise<void>): Promise<void> {
  await using folder = await openRunFolder();
  const bench = createBench();
  const driver = createForeignDriver(bench.server, createRecord(join(folder.path, "copies")), { clock: systemClock });
  await work(bench, driver);
  const over = driver[Symbol.asyncDispose]();
  bench.finish();
  await over;
}

const request = (serverName: string, signal = never): Parameters<ReturnType<typeof createForeignDriver>["load"]>[0] => ({
  serverName,
  revision: "r1",
  path: "/m",
  format: "f",
  expectedBytes: 1,
  signal,
});

test("loads and unloads of one name wait for each other; those of others do not", async () => {
  await withDriver(async (bench, driver) => {
    const all = [driver.load(request("a")), driver.unload("a", never), driver.load(request("a")), driver.load(request("b"))];
    await waitFor(() => bench.log.includes("load b"));
    assert.deepEqual(bench.log, ["load a", "load b"]);
    const settled = Promise.all(all);
    let over = false;
    void settled.then(() => (over = true));
    await waitFor(() => {
      bench.finish();
      return over;
    });
    assert.deepEqual(bench.overlaps, []);
    assert.deepEqual(
      bench.log.filter((line) => line.includes(" a")),
      ["load a", "load a done", "unload a", "unload a done", "load a", "load a done"],
    );
    assert.deepEqual([...bench.held].toSorted(), ["a", "b"]);
  });
});

test("a load that its caller gave up and that succeeds is taken back before anything else happens under its name", async () => {
  await withDriver(async (bench, driver) => {
    const gone = new AbortController();
    const given = driver.load(request("a", gone.signal));
    await waitFor(() => bench.log.length === 1);
    gone.abort(new Error("no more"));
    await assert.rejects(given, /no more/);
    const again = driver.load(request("a"));
    let over = false;
    void again.then(() => (over = true));
    await waitFor(() => {
      bench.finish();
      return over;
    });
    assert.deepEqual(bench.overlaps, []);
    assert.deepEqual(bench.log, ["load a", "load a done", "unload a", "unload a done", "load a", "load a done"]);
  });
});

test("a server that is dead lists nothing, also when nothing is held that it could be asked about", async () => {
  await using folder = await openRunFolder();
  const record = createRecord(join(folder.path, "copies"));
  let live = false;
  const server: ForeignServer = { ...createBench().server, live: async () => live };
  await using driver = createForeignDriver(server, record, { clock: systemClock });
  assert.equal((await driver.list(never)).kind, "failed");
  live = true;
  assert.deepEqual(await driver.list(never), { kind: "ok", held: [] });
});

test("a server that answers nothing while it loads is lost only once requests get no answer either", async () => {
  await using folder = await openRunFolder();
  const { server, finish } = createBench();
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  let live = true;
  const silenceMs = 200;
  await using driver = createForeignDriver(
    { ...server, address: `127.0.0.1:${(listener.address() as AddressInfo).port}`, live: async () => live },
    createRecord(join(folder.path, "copies")),
    { clock: systemClock, pollMs: 5, silenceMs },
  );
  const stop = new AbortController();
  const told: string[] = [];
  const running = driver.start({ onUp: () => void told.push("up"), onLost: (_, how) => void told.push(how) }, stop.signal);
  await waitFor(() => told.length === 1);

  // Busy for longer than it may be silent.
  const first = driver.load(request("a"));
  live = false;
  await sleep(3 * silenceMs);
  live = true;
  finish();
  assert.equal((await first).kind, "ok");
  assert.deepEqual(told, ["up"]);

  const second = driver.load(request("b"));
  live = false;
  driver.doubt(silenceMs);
  await waitFor(() => told.length === 2);
  assert.deepEqual(told, ["up", "silent"]);
  finish();
  await second;
  live = true;
  await waitFor(() => told.length === 3);
  stop.abort();
  await Promise.allSettled([running]);
  listener.close();
});
