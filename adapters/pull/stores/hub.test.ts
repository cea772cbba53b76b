// The store of model hubs against a server that speaks the protocol of Hugging Face's, its large files on another host, as
// there. No package carries the hub itself.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { openPullBench, type PullBench } from "../testing/bench.ts";
import { openTestWebServer, type TestWebServer } from "../testing/webserver.ts";

const sha = "a".repeat(40);
const token = "hf_not-to-be-seen";
const weights = randomBytes(300_000);
const config = Buffer.from('{"model_type":"test"}');
const never = new AbortController().signal;

function gitId(content: Buffer): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

describe("the store of a model hub", { timeout: 60_000 }, () => {
  let hub: TestWebServer;
  let cdn: TestWebServer;
  let bench: PullBench;
  const api = "/api/models/org/model";
  const resolve = `/org/model/resolve/${sha}`;
  const page = (entries: unknown, next?: string) => (_: unknown, response: ServerResponse) =>
    void response
      .writeHead(200, { "content-type": "application/json", ...(next === undefined ? {} : { link: `<${next}>; rel="next"` }) })
      .end(JSON.stringify(entries));
  const weightsEntry = {
    type: "file",
    path: "model.safetensors",
    size: weights.length,
    oid: "b".repeat(40),
    lfs: { oid: createHash("sha256").update(weights).digest("hex"), size: weights.length },
  };
  const configEntry = { type: "file", path: "sub/config.json", size: config.length, oid: gitId(config) };
  const pull = async (
    storageUri = "hf://org/model",
  ): Promise<{ readonly path?: string; readonly reason: string; readonly failure?: string }> => {
    const pulled = await bench.puller.pull({ storageUri }, never);
    return pulled.kind === "ok" ? { path: pulled.path, reason: "" } : pulled;
  };

  before(async () => {
    hub = await openTestWebServer();
    cdn = await openTestWebServer();
  });
  after(async () => {
    await hub?.[Symbol.asyncDispose]();
    await cdn?.[Symbol.asyncDispose]();
  });
  afterEach(() => bench[Symbol.asyncDispose]());
  beforeEach(async () => {
    bench = await openPullBench();
    await bench.setEntry("default_hf", { type: "hf", endpoint_url: hub.url, token });
    hub.scripts.clear();
    hub.files.clear();
    cdn.files.clear();
    cdn.files.set("/blob", weights);
    hub.files.set(`${resolve}/sub/config.json`, config);
    hub.scripts.set(`${api}/revision/main`, [page({ sha })]);
    hub.scripts.set(`${api}/tree/${sha}?recursive=true`, [
      page([{ type: "directory", path: "sub", size: 0 }, configEntry], `${hub.url}${api}/tree/${sha}?recursive=true&cursor=2`),
    ]);
    hub.scripts.set(`${api}/tree/${sha}?recursive=true&cursor=2`, [page([weightsEntry])]);
    const toCdn = (_: unknown, response: ServerResponse): void =>
      void response.writeHead(302, { location: `${cdn.url}/blob?signed=1` }).end();
    hub.scripts.set(`${resolve}/model.safetensors`, Array(10).fill(toCdn));
  });

  test("gives all files of one commit, every page of its list, large ones from where it says; its token stays with it", async () => {
    const { path, reason } = await pull();
    assert.ok(path !== undefined, reason);
    assert.deepEqual((await readdir(path, { recursive: true })).toSorted(), ["model.safetensors", "sub", "sub/config.json"]);
    assert.deepEqual(await readFile(join(path, "model.safetensors")), weights);
    assert.ok(hub.requests.every(({ headers }) => headers.authorization === `Bearer ${token}`));
    assert.ok(cdn.requests.length > 0 && cdn.requests.every(({ headers }) => headers.authorization === undefined));
  });

  test("a large file that is cut goes on where it was", async () => {
    cdn.scripts.set("/blob?signed=1", [
      (_, response) => {
        response.writeHead(200, { "content-length": weights.length });
        response.write(weights.subarray(0, 100_000));
        setTimeout(() => response.destroy(), 50);
      },
    ]);
    const before = cdn.requests.length;
    const { path, reason } = await pull();
    assert.ok(path !== undefined, reason);
    assert.deepEqual(await readFile(join(path, "model.safetensors")), weights);
    assert.match(String(cdn.requests.slice(before).at(-1)?.headers.range), /^bytes=\d{2,}-/);
  });

  test("content of another digest than listed is never given out", async () => {
    cdn.files.set("/blob", randomBytes(weights.length));
    const { path, reason, failure } = await pull();
    assert.equal(path, undefined);
    assert.equal(failure, "storage", reason);
  });

  test("a revision is part of the address; what is not there, or not allowed, is told apart", async () => {
    hub.scripts.set(`${api}/revision/v1`, [page({ sha })]);
    assert.notEqual((await pull("hf://org/model:v1")).path, undefined);
    const absent = await pull("hf://org/absent");
    assert.equal(absent.failure, "model", absent.reason);
    assert.match(absent.reason, /nothing at hf:\/\/org\/absent/);
    hub.scripts.set("/api/models/org/gated/revision/main", [(_, response) => void response.writeHead(401).end(`no ${token}`)]);
    const refused = await pull("hf://org/gated");
    assert.equal(refused.failure, "storage", refused.reason);
    assert.ok(!refused.reason.includes(token));
  });

  test("a list that leads elsewhere, and names that lead out, are refused", async () => {
    hub.scripts.set(`${api}/tree/${sha}?recursive=true`, [page([configEntry], `${cdn.url}/elsewhere`)]);
    assert.match((await pull()).reason, /goes on elsewhere/);
    hub.scripts.set(`${api}/revision/main`, [page({ sha })]);
    hub.scripts.set(`${api}/tree/${sha}?recursive=true`, [page([{ ...configEntry, path: "../evil" }])]);
    assert.match((await pull()).reason, /odd name/);
  });
});
