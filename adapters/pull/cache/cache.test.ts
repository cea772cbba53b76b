import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, utimesSync } from "node:fs";
import { appendFile, mkdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { untilAborted } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import type { Artefact } from "../../drivers/driver.ts";
import type { Pulled } from "../puller.ts";
import { openPullBench, type PullBench } from "../testing/bench.ts";
import { etagOf, openTestWebServer, type Script, serveFile, type TestWebServer } from "../testing/webserver.ts";
import { keyOf, openDiskCache, type Wanted } from "./cache.ts";

const never = new AbortController().signal;

describe("the disk cache", { timeout: 120_000 }, () => {
  let server: TestWebServer;
  let bench: PullBench;
  before(async () => {
    server = await openTestWebServer();
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    bench = await openPullBench({ maxBytes: 100_000 });
  });
  afterEach(() => bench[Symbol.asyncDispose]());
  const serve = (path: string, bytes: number | Buffer): Artefact => {
    server.files.set(path, typeof bytes === "number" ? Buffer.alloc(bytes, path) : bytes);
    return { storageUri: `${server.url}${path}` };
  };
  const pull = async (artefact: Artefact, signal = never): Promise<Pulled> => {
    const pulled = await bench.puller.pull(artefact, signal);
    assert.ok(pulled.kind === "ok", JSON.stringify(pulled));
    return pulled;
  };
  const transfers = (path: string): number =>
    server.requests.filter((request) => request.path === path && request.headers.range !== "bytes=0-0").length;
  const content = (): readonly string[] => readdirSync(join(bench.folder, "cache/content"));

  test("stays within its bound: what was used last stays, what is held is never taken", async () => {
    const held = await pull(serve("/held", 40_000));
    for (const name of ["/a", "/b", "/c"]) await (await pull(serve(name, 25_000))).release();
    assert.ok(bench.cache.usedBytes <= 100_000);
    await pull(serve("/b", 25_000)).then((pulled) => pulled.release());
    assert.equal(transfers("/b"), 1);
    await pull(serve("/d", 30_000)).then((pulled) => pulled.release());
    await pull(serve("/b", 25_000)).then((pulled) => pulled.release());
    assert.equal(transfers("/b"), 1, "the one that was used last was evicted");
    await pull(serve("/c", 25_000)).then((pulled) => pulled.release());
    assert.equal(transfers("/c"), 2, "the one that was used least lately was kept");
    assert.equal((await stat(held.path)).size, 40_000);
    await held.release();
    await held.release();
  });

  test("a pull waits for what is held, until its own signal", async () => {
    const held = await pull(serve("/hold-all", 90_000));
    const stop = new AbortController();
    const stopped = bench.puller.pull(serve("/first", 50_000), stop.signal);
    const waiting = bench.puller.pull(serve("/second", 50_000), never);
    await waitFor(() => transfers("/hold-all") === 1);
    stop.abort(new Error("no more"));
    await assert.rejects(stopped, /no more/);
    await held.release();
    assert.equal((await waiting).kind, "ok");
  });

  test("pulls of one artefact at once are one transfer, which goes on while somebody waits", async () => {
    const artefact = serve("/shared", 50_000);
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const bytes = server.files.get("/shared")!;
    const look: Script = (request, response) => serveFile(request, response, bytes);
    server.scripts.set("/shared", [
      look,
      look,
      look,
      async (request, response) => {
        await gate;
        serveFile(request, response, bytes);
      },
    ]);
    const stop = new AbortController();
    const pulls = [pull(artefact, stop.signal), pull(artefact), pull(artefact)];
    await waitFor(() => transfers("/shared") === 1);
    stop.abort(new Error("no more"));
    await assert.rejects(pulls[0]!, /no more/);
    open();
    const done = await Promise.all(pulls.slice(1));
    assert.equal(transfers("/shared"), 1);
    assert.equal(new Set(done.map(({ path }) => path)).size, 1);
  });

  test("one content from two places is kept once", async () => {
    const bytes = Buffer.from("the same");
    const first = await pull(serve("/x/m.onnx", bytes));
    const second = await pull(serve("/y/m.onnx", bytes));
    assert.equal(first.path, second.path);
    assert.equal(bench.cache.usedBytes, bytes.length);
  });

  test("outlives the adapter, and is looked at before it is used again", async () => {
    const artefact = serve("/kept", 20_000);
    const first = await pull(artefact);
    await bench.reopen();
    assert.equal((await pull(artefact)).path, first.path);
    assert.equal(transfers("/kept"), 1);

    await appendFile(first.path, "x");
    assert.equal((await readFile((await pull(artefact)).path)).length, 20_000);
    assert.equal(transfers("/kept"), 2);
  });

  for (const [what, spoil] of [
    ["is changed in place", (path: string) => writeFile(path, "y".repeat(20_000))],
    ["is taken away", (path: string) => rm(path)],
    [
      "is made a link",
      async (path: string): Promise<void> => {
        await rm(path);
        await symlink("/etc/passwd", path);
      },
    ],
  ] as const) {
    test(`a file that ${what} is fetched anew`, async () => {
      const artefact = serve("/spoilt", 20_000);
      const first = await pull(artefact);
      await spoil(first.path);
      const second = await pull(artefact);
      assert.deepEqual(await readFile(second.path), server.files.get("/spoilt"));
    });
  }

  test("a file that rots under its old facts is found out when the adapter starts anew", async () => {
    const artefact = serve("/rotten", 20_000);
    const first = await pull(artefact);
    const { atime, mtime } = await stat(first.path);
    await writeFile(first.path, "z".repeat(20_000));
    utimesSync(first.path, atime, mtime);
    await bench.reopen();
    assert.deepEqual(await readFile((await pull(artefact)).path), server.files.get("/rotten"));
  });

  test("goes on with what a transfer left, even a transfer of an adapter that is gone", async () => {
    await using large = await openPullBench();
    const bytes = Buffer.alloc(4 * 2 ** 20, "resumed");
    const artefact = serve("/resumed", bytes);
    server.scripts.set("/resumed", [
      (request, response) => serveFile(request, response, bytes),
      (_, response) => {
        response.writeHead(200, { etag: etagOf(bytes), "content-length": bytes.length });
        response.write(bytes.subarray(0, 3 * 2 ** 20));
      },
    ]);
    const stop = new AbortController();
    const pulling = large.puller.pull(artefact, stop.signal);
    const partial = join(large.folder, "cache/partial");
    const onDisk = (): number =>
      readdirSync(partial, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
    await waitFor(() => onDisk() >= 2 ** 20, { timeoutMs: 30_000 });
    stop.abort(new Error("no more"));
    await assert.rejects(pulling, /no more/);
    await large.reopen();
    const there = onDisk();
    const pulled = await large.puller.pull(artefact, never);
    assert.ok(pulled.kind === "ok");
    assert.deepEqual(await readFile(pulled.path), bytes);
    assert.equal(server.requests.at(-1)?.headers.range, `bytes=${there}-`);
    assert.equal(large.cache.usedBytes, bytes.length);
  });

  test("what is no artefact in its folder is removed at the start", async () => {
    await pull(serve("/known", 1_000));
    await mkdir(join(bench.folder, "cache/content/strange"));
    await writeFile(join(bench.folder, "cache/content/strange/manifest.json"), '{"name":"../../etc"}');
    await bench.reopen();
    assert.equal(content().length, 1);
  });

  test("what was cut off and waits keeps no room from one that waits before it", async () => {
    await using cache = await openDiskCache({ folder: join(bench.folder, "waiting"), maxBytes: 100, log: silentLog });
    const wanted = (key: string, sizeBytes: number, cut = false): Wanted => ({
      key,
      sourceKey: `from-${key}`,
      sizeBytes,
      resumable: true,
      fill: async ({ folder }, signal) => {
        await mkdir(join(folder, "files/a"), { recursive: true });
        await writeFile(join(folder, "files/a", key), Buffer.alloc(cut ? 20 : sizeBytes, key));
        if (cut) await untilAborted(signal).then(() => signal.throwIfAborted());
        return { name: `a/${key}`, files: [{ path: `a/${key}`, sizeBytes, sha256: "0".repeat(64), mtimeMs: 0 }] };
      },
    });
    const held = await cache.take(wanted("held", 20), never);
    const stop = new AbortController();
    const cut = cache.take(wanted("again", 50, true), stop.signal);
    await waitFor(() => existsSync(join(bench.folder, "waiting/partial/again/files/a/again")));
    const first = cache.take(wanted("first", 85), never);
    stop.abort(new Error("no more"));
    await assert.rejects(cut, /no more/);
    const again = cache.take(wanted("again", 50), never);
    await waitFor(() => cache.usedBytes === 40);
    held.release();
    (await first).release();
    (await again).release();
    assert.ok(cache.usedBytes <= 100);
  });

  test("is its user's own, unless the model server is another user", async () => {
    for (const readable of [false, true]) {
      const folder = join(bench.folder, `readable-${readable}`);
      await using cache = await openDiskCache({ folder, maxBytes: 100, readable, log: silentLog });
      const fill: Wanted["fill"] = async (staging) => {
        const path = "files/a/folder/file";
        await mkdir(join(staging.folder, dirname(path)), { recursive: true, mode: 0o700 });
        await writeFile(join(staging.folder, path), "x", { mode: 0o600 });
        return { name: "a/folder", files: [{ path: "a/folder/file", sizeBytes: 1, sha256: "0".repeat(64), mtimeMs: 0 }] };
      };
      const lease = await cache.take({ key: "k", sourceKey: "s", sizeBytes: 1, resumable: true, fill }, never);
      const modes: string[] = [];
      for (let path = join(lease.folder, "a/folder/file"); path !== dirname(folder); path = dirname(path))
        modes.push(((await stat(path)).mode & 0o777).toString(8));
      const isOpen = modes.every((mode) => mode === "755" || mode === "644");
      assert.equal(isOpen, readable, modes.join());
    }
  });

  test("belongs to one process", async () => {
    const folder = join(bench.folder, "cache");
    await writeFile(join(folder, "owner"), `${process.ppid} ${startOf(process.ppid)}`);
    await assert.rejects(openDiskCache({ folder, maxBytes: 1, log: silentLog }), /in use by process/);
    await writeFile(join(folder, "owner"), `${process.ppid} 1`);
    await using again = await openDiskCache({ folder, maxBytes: 1, log: silentLog });
    assert.equal(again.usedBytes, 0);
  });
});

function startOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

test("keys of different facts are different", () => {
  const facts = [["a", "bc"], ["ab", "c"], ["abc"], [["a"], "bc"], { a: "bc" }, ["a", "b", "c"], "a,bc", null];
  assert.equal(new Set(facts.map(keyOf)).size, facts.length);
});
