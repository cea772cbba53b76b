import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before, beforeEach, describe, test } from "node:test";
import type { Artefact } from "../../drivers/driver.ts";
import type { Pulled } from "../puller.ts";
import { openPullBench, type PullBench } from "../testing/bench.ts";
import { etagOf, openTestWebServer, type Script, serveFile, type TestWebServer } from "../testing/webserver.ts";

const never = new AbortController().signal;
const content = randomBytes(3 * 2 ** 20);

describe("artefacts on web servers", { timeout: 120_000 }, () => {
  let server: TestWebServer;
  let other: TestWebServer;
  let bench: PullBench;
  before(async () => {
    server = await openTestWebServer();
    other = await openTestWebServer();
    bench = await openPullBench();
  });
  after(async () => {
    await bench?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    await other?.[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    server.scripts.clear();
  });

  const serve = (path: string, bytes = content): string => {
    server.files.set(path, bytes);
    return `${server.url}${path}`;
  };
  const pull = async (storageUri: string, more: Partial<Artefact> = {}, signal = never): Promise<Pulled> => {
    const pulled = await bench.puller.pull({ storageUri, ...more }, signal);
    assert.ok(pulled.kind === "ok", pulled.kind === "failed" ? pulled.reason : "");
    return pulled;
  };
  const fail = async (storageUri: string, more: Partial<Artefact> = {}): Promise<{ failure: string; reason: string }> => {
    const pulled = await bench.puller.pull({ storageUri, ...more }, never);
    assert.ok(pulled.kind === "failed", "it was pulled");
    return pulled;
  };
  const asked = (path: string): number => server.requests.filter((request) => request.path === path).length;
  /** The first request only looks; the script begins behind it. */
  const script = (path: string, ...scripts: readonly Script[]): void =>
    void server.scripts.set(path, [(request, response) => serveFile(request, response, server.files.get(path)!), ...scripts]);

  test("are told of while they come", async () => {
    let bytes = 0;
    const moved = (more: number): void => void (bytes += more);
    const pulled = await bench.puller.pull({ storageUri: serve("/models/moves.onnx", randomBytes(2 ** 20)) }, never, moved);
    assert.equal(pulled.kind, "ok");
    assert.ok(bytes >= 2 ** 20, `told of ${bytes}`);
  });

  test("come whole, under their own name, and again from the disk", async () => {
    const uri = serve("/models/iris.onnx");
    const probed = await bench.puller.probe({ storageUri: uri }, never);
    assert.deepEqual(probed, { kind: "ok", sizeBytes: content.length });
    const pulled = await pull(uri);
    assert.ok(pulled.path.endsWith("/iris.onnx"));
    assert.deepEqual(await readFile(pulled.path), content);
    assert.equal(pulled.sizeBytes, content.length);
    assert.equal(asked("/models/iris.onnx"), 2, "the probe's look serves the pull");
    await pulled.release();
    const again = await pull(uri);
    assert.equal(again.path, pulled.path);
    assert.equal(asked("/models/iris.onnx"), 3, "a look, and no transfer");
    await again.release();
  });

  test("with a schema beside them", async () => {
    serve("/with/schema.json", Buffer.from("{}"));
    const pulled = await pull(serve("/with/m.onnx"), { schemaPath: "schema.json" });
    assert.equal(await readFile(pulled.schemaPath ?? "", "utf8"), "{}");
    const { failure, reason } = await fail(serve("/with/m.onnx"), { schemaPath: "absent.json" });
    assert.equal(failure, "model");
    assert.match(reason, /no schema file/);
  });

  const statuses: readonly (readonly [number, string, RegExp])[] = [
    [404, "model", /nothing at .*\/status\/404/],
    [410, "model", /nothing at/],
    [401, "storage", /credentials are not accepted for .*\/status\/401/],
    [403, "storage", /permission to read .*\/status\/403 is denied/],
    [400, "storage", /refused the request/],
    [500, "storage", /failed to give/],
    [503, "storage", /failed to give/],
  ];
  for (const [status, failure, reason] of statuses) {
    test(`status ${status} is a failure of its own, never the model`, async () => {
      const path = `/status/${status}`;
      server.scripts.set(
        path,
        Array.from({ length: 9 }, () => (_, response) => void response.writeHead(status).end("a page")),
      );
      const failed = await fail(`${server.url}${path}`);
      assert.equal(failed.failure, failure);
      assert.match(failed.reason, reason);
    });
  }

  test("go on where the connection was cut", async () => {
    const uri = serve("/cut");
    const cutAt = 1_000_000;
    const cut: Script = (_, response) => {
      response.writeHead(200, { etag: etagOf(content), "content-length": content.length });
      response.write(content.subarray(0, cutAt), () => response.destroy());
    };
    script("/cut", cut);
    const pulled = await pull(uri);
    assert.deepEqual(await readFile(pulled.path), content);
    const ranges = server.requests.filter(({ path }) => path === "/cut").map(({ headers }) => headers.range);
    assert.equal(ranges.length, 3);
    const [, , last] = ranges;
    assert.match(last ?? "", /^bytes=[1-9]\d*-$/);
  });

  test("are asked for again after an error of the server, a few times only", async () => {
    const broken: Script = (_, response) => void response.writeHead(502).end();
    script("/flaky", broken, broken, broken);
    const pulled = await pull(serve("/flaky"));
    assert.deepEqual(await readFile(pulled.path), content);
    script("/broken", ...Array.from({ length: 20 }, () => broken));
    const { failure, reason } = await fail(serve("/broken"));
    assert.equal(failure, "storage");
    assert.match(reason, /failed to give .*broken.*status 502/);
    assert.equal(asked("/broken"), 6);
  });

  test("are left when the server falls silent", async () => {
    const silent: Script = (_, response) => {
      response.writeHead(200, { etag: etagOf(content), "content-length": content.length });
      response.write(content.subarray(0, 10));
    };
    script("/silent", ...Array.from({ length: 20 }, () => silent));
    await using impatient = await openPullBench({ silenceMs: 300 });
    const pulled = await impatient.puller.pull({ storageUri: serve("/silent") }, never);
    assert.ok(pulled.kind === "failed" && pulled.failure === "storage", JSON.stringify(pulled));
    assert.match(pulled.reason, /silent|cannot be reached/);
  });

  test("of another length or content than promised are never given out", async () => {
    const short: Script = (_, response) =>
      void response.writeHead(200, { etag: etagOf(content), "content-length": 10 }).end(content.subarray(0, 10));
    const look: Script = (request, response) => serveFile(request, response, content);
    script("/short", ...Array.from({ length: 5 }, () => [short, look]).flat());
    assert.match((await fail(serve("/short"))).reason, /another length/);
    const lying: Script = (_, response) =>
      void response
        .writeHead(200, { etag: etagOf(content), "content-length": content.length, "content-md5": "AAAAAAAAAAAAAAAAAAAAAA==" })
        .end(content);
    script("/lying", ...Array.from({ length: 9 }, () => lying));
    const { failure, reason } = await fail(serve("/lying"));
    assert.equal(failure, "storage");
    assert.match(reason, /checksum/);
  });

  test("that change while they are fetched are fetched anew", async () => {
    const uri = serve("/changing", Buffer.from("old"));
    server.scripts.set("/changing", [
      (request, response) => {
        serveFile(request, response, Buffer.from("old"));
        server.files.set("/changing", Buffer.from("newer"));
      },
    ]);
    assert.equal(await readFile((await pull(uri)).path, "utf8"), "newer");
  });

  test("without an end that can be told are refused, and endless ones bounded by the cache", async () => {
    const closing: Script = (_, response) => {
      response.shouldKeepAlive = false;
      response.useChunkedEncodingByDefault = false;
      response.writeHead(200).end(content);
    };
    server.scripts.set("/closing", [closing, closing]);
    assert.match((await fail(`${server.url}/closing`)).reason, /does not say where/);
    await using small = await openPullBench({ maxBytes: 2 ** 20 });
    const endless: Script = (_, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(Buffer.alloc(2 ** 18)), 1);
      response.on("close", () => clearInterval(timer));
    };
    server.scripts.set("/endless", [endless, endless]);
    const pulled = await small.puller.pull({ storageUri: `${server.url}/endless` }, never);
    assert.ok(pulled.kind === "failed" && pulled.failure === "capacity", JSON.stringify(pulled));
    assert.equal(small.cache.usedBytes, 0);
    const large = await small.puller.pull({ storageUri: serve("/large") }, never);
    assert.ok(large.kind === "failed" && large.failure === "capacity" && /3145728 bytes/.test(large.reason));
  });

  test("chunked ones come whole; cut ones do not count", async () => {
    const chunked: Script = (_, response) => {
      response.writeHead(200);
      response.write("half ");
      response.end("whole");
    };
    server.scripts.set("/chunked", [chunked, chunked]);
    assert.equal(await readFile((await pull(`${server.url}/chunked`)).path, "utf8"), "half whole");
    const cut: Script = (_, response) => {
      response.writeHead(200);
      response.write("half ", () => response.destroy());
    };
    server.scripts.set(
      "/cut-chunks",
      Array.from({ length: 20 }, () => cut),
    );
    assert.equal((await fail(`${server.url}/cut-chunks`)).failure, "storage");
  });

  test("an abort ends the transfer and the connection at once", async () => {
    const uri = serve("/slow");
    const { promise: began, resolve } = Promise.withResolvers<void>();
    const slow: Script = (_, response) => {
      response.writeHead(200, { etag: etagOf(content), "content-length": content.length });
      response.write(content.subarray(0, 1_000));
      response.on("close", () => closed.resolve());
      resolve();
    };
    const closed = Promise.withResolvers<void>();
    script("/slow", slow);
    const stop = new AbortController();
    const pulling = bench.puller.pull({ storageUri: uri }, stop.signal);
    await began;
    stop.abort(new Error("no more"));
    await assert.rejects(pulling, /no more/);
    await closed.promise;
  });

  test("secrets of an entry stay with its server, through redirects too", async () => {
    await bench.setEntry("web", { type: "http", url: `${server.url}/private`, headers: { Authorization: "Bearer s3cret" } });
    serve("/private/m");
    assert.deepEqual(await readFile((await pull(`${server.url}/private/m`, { storageKey: "web" })).path), content);
    assert.equal(server.requests.at(-1)?.headers.authorization, "Bearer s3cret");
    assert.deepEqual(await readFile((await pull("storage:///m", { storageKey: "web" })).path), content);
    other.files.set("/elsewhere", Buffer.from("other"));
    const away: Script = (_, response) => void response.writeHead(302, { location: `${other.url}/elsewhere` }).end();
    server.scripts.set("/private/away", [away, away, away]);
    assert.equal(await readFile((await pull(`${server.url}/private/away`, { storageKey: "web" })).path, "utf8"), "other");
    assert.ok(other.requests.length > 0);
    for (const { headers } of other.requests) assert.equal(headers.authorization, undefined);

    for (const storageUri of [`${other.url}/private/m`, `${server.url}/privateer/m`, `${server.url}/private/..%2fpublic`]) {
      assert.match((await fail(storageUri, { storageKey: "web" })).reason, /for another server/);
    }
    const override = await fail("storage:///m", { storageKey: "web", storageParameters: { url: other.url } });
    assert.match(override.reason, /cannot set the parameter url/);
    assert.equal(other.requests.filter(({ headers }) => headers.authorization !== undefined).length, 0);
  });

  test("private addresses are refused, literal, by name, and behind a redirect", async () => {
    await using strict = await openPullBench({ allowPrivate: false });
    await strict.setEntry("web", { type: "http", url: server.url });
    const reasonOf = async (artefact: Artefact): Promise<string> => {
      const pulled = await strict.puller.pull(artefact, never);
      assert.ok(pulled.kind === "failed", JSON.stringify(artefact));
      assert.equal(pulled.failure, "model");
      return pulled.reason;
    };
    const { port } = new URL(server.url);
    const before = server.requests.length;
    for (const host of [
      "127.0.0.1",
      "localhost",
      "[::1]",
      "[::ffff:127.0.0.1]",
      "2130706433",
      "0x7f.1",
      "0.0.0.0",
      "169.254.169.254",
      "168.63.129.16",
      "[::ffff:a83f:8110]",
      "[64:ff9b::a9fe:a9fe]",
      "[fd00:ec2::254]",
    ]) {
      assert.match(await reasonOf({ storageUri: `http://${host}:${port}/m` }), /private address/, host);
    }
    assert.equal(server.requests.length, before);
    // The operator's own server may be where it likes; where it redirects to may not.
    serve("/m");
    assert.equal((await strict.puller.pull({ storageUri: "storage:///m", storageKey: "web" }, never)).kind, "ok");
    const inward: Script = (_, response) => void response.writeHead(302, { location: `${other.url}/elsewhere` }).end();
    server.scripts.set("/inward", [inward]);
    const asked = other.requests.length;
    assert.match(await reasonOf({ storageUri: "storage:///inward", storageKey: "web" }), /private address/);
    assert.equal(other.requests.length, asked);
  });

  test("redirects are bounded", async () => {
    const round: Script = (_, response) => void response.writeHead(302, { location: "/round" }).end();
    server.scripts.set(
      "/round",
      Array.from({ length: 50 }, () => round),
    );
    assert.match((await fail(`${server.url}/round`)).reason, /redirects more than 5 times/);
    server.scripts.set("/file", [(_, response) => void response.writeHead(302, { location: "file:///etc/passwd" }).end()]);
    assert.match((await fail(`${server.url}/file`)).reason, /no plain web address/);
  });

  test("when the server is gone, what came from it last is used", async () => {
    const gone = await openTestWebServer();
    gone.files.set("/m", Buffer.from("kept"));
    const first = await pull(`${gone.url}/m`);
    await first.release();
    await gone[Symbol.asyncDispose]();
    const second = await pull(`${gone.url}/m`);
    assert.equal(await readFile(second.path, "utf8"), "kept");
    assert.ok(bench.log.lines.some(({ message }) => message.includes("cannot be reached")));
    const never = await fail(`${gone.url}/other`);
    assert.equal(never.failure, "storage");
    assert.match(never.reason, /cannot be reached for .*other.*ECONNREFUSED/);
  });

  test("when the server says nothing, what came from it last is used, and soon it is left alone for a while", async () => {
    const hung = await openTestWebServer();
    await using impatient = await openPullBench({ listMs: 300 });
    hung.files.set("/m", Buffer.from("kept"));
    const pullOf = (path: string): ReturnType<typeof impatient.puller.pull> =>
      impatient.puller.pull({ storageUri: `${hung.url}${path}` }, never);
    const first = await pullOf("/m");
    assert.ok(first.kind === "ok");
    await first.release();
    const nothing: Script = (request) => void request.resume();
    for (const path of ["/m", "/other"])
      hung.scripts.set(
        path,
        Array.from({ length: 50 }, () => nothing),
      );
    for (let time = 0; time < 4; time++) {
      const kept = await pullOf("/m");
      assert.ok(kept.kind === "ok");
      assert.equal(await readFile(kept.path, "utf8"), "kept");
      await kept.release();
    }
    const asked = hung.requests.length;
    const other = await pullOf("/other");
    assert.ok(other.kind === "failed");
    assert.deepEqual([other.failure, /has been silent, and is left alone/.test(other.reason)], ["storage", true], other.reason);
    assert.equal(hung.requests.length, asked, "it was asked");
    await hung[Symbol.asyncDispose]();
  });
});
