// A model in object storage through the whole fleet: registered over the management API, cold, answered; and what a client
// is told when the storage does not let it be fetched.
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { openTestWebServer, type TestWebServer } from "#adapters/pull/testing/webserver.ts";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { createRestClient } from "../harness/http.ts";
import { waitUntil } from "../harness/wait.ts";
import { openMoto, type StorageServer } from "../storage/servers.ts";

const secret = "not-to-be-seen-s3cret";
let folder: RunFolder;
let moto: StorageServer;
let web: TestWebServer;
let fleet: TestFleet;

before(async () => {
  folder = await openRunFolder();
  moto = await openMoto();
  web = await openTestWebServer();
  const settings = join(folder.path, "settings");
  await mkdir(settings);
  const entry = { type: "s3", access_key_id: "AKIATEST", secret_access_key: secret, endpoint_url: moto.url, region: "us-east-1" };
  await writeFile(join(settings, "default_s3"), JSON.stringify({ ...entry, default_bucket: "models" }));
  await writeFile(join(settings, "refused"), JSON.stringify({ ...entry, endpoint_url: web.url }));
  await writeFile(join(settings, "malformed"), `{"type":"s3","secret_access_key":"${secret}"}`);
  fleet = await openFleet({ pods: 1, storageConfig: settings });
  const credentials = { accessKeyId: "AKIATEST", secretAccessKey: secret };
  const client = new S3Client({ endpoint: moto.url, region: "us-east-1", forcePathStyle: true, credentials });
  await client.send(new CreateBucketCommand({ Bucket: "models" }));
  const model = await readFile(join(fleet.libraryFolder, "models/iris/iris-t0001.onnx"));
  await client.send(new PutObjectCommand({ Bucket: "models", Key: "tenant/iris.onnx", Body: model }));
  client.destroy();
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
  await web?.[Symbol.asyncDispose]();
  await moto?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

const body = { inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] };

async function infer(name: string): Promise<{ status: number; text: string }> {
  await using client = createRestClient(fleet.restUrl);
  return await client.ask(`/v2/models/${name}/infer`, { method: "POST", body });
}

async function register(name: string, revision: Readonly<Record<string, unknown>>): Promise<void> {
  const put = await fleet.manage("PUT", `/api/v1/models/${name}`, { format: "onnx", ...revision });
  assert.equal(put.status, 201, put.text);
}

test("a cold model in S3 is fetched and answered through Envoy, by address and by entry", async () => {
  await register("from-s3", { storageUri: "s3://models/tenant/iris.onnx" });
  await register("by-entry", { storageUri: "storage:///tenant/iris.onnx", storageParameters: { type: "s3" } });
  for (const name of ["from-s3", "by-entry"]) {
    const answer = await infer(name);
    assert.equal(answer.status, 200, `${answer.text}\n${await fleet.tail("pod-0-adapter")}`);
    assert.match(answer.text, /"outputs"/);
  }
});

test("a client is told why a model cannot be fetched, and no secret", async () => {
  web.scripts.set("/models/x", [(_, response) => void response.writeHead(403).end()]);
  web.scripts.set("/models/?list-type=2&prefix=x%2F", [
    (_, response) => void response.writeHead(403).end("<Error><Code>InvalidAccessKeyId</Code></Error>"),
  ]);
  await register("bad-credentials", { storageUri: "s3://models/x", storageKey: "refused" });
  await register("bad-entry", { storageUri: "s3://models/x", storageKey: "malformed" });
  await register("absent", { storageUri: "s3://models/absent" });
  const cases = [
    ["bad-credentials", 503, /credentials are not accepted for s3:\/\/models\/x/],
    ["bad-entry", 503, /entry malformed must have all of access_key_id, secret_access_key/],
    ["absent", 424, /nothing at s3:\/\/models\/absent/],
  ] as const;
  for (const [name, status, reason] of cases) {
    const answer = await infer(name);
    assert.equal(answer.status, status, answer.text);
    assert.match(answer.text, reason);
    assert.ok(!answer.text.includes(secret));
  }
  for (const name of ["pod-0-adapter", "gateway"]) assert.ok(!(await fleet.tail(name)).includes(secret));
});

/** Says that there is an object, and then gives its bytes one by one. */
function trickle(head: boolean, response: ServerResponse): void {
  response.writeHead(200, { "content-length": 1_000_000, etag: '"e"', "last-modified": "Fri, 27 Nov 2026 10:00:00 GMT" });
  if (head) return void response.end();
  response.flushHeaders();
  const timer = setInterval(() => response.write("x"), 500);
  response.on("close", () => clearInterval(timer));
}

test("stores that hang or trickle in the middle of a body hold up nobody else", async () => {
  await register("healthy", { storageUri: "s3://models/tenant/iris.onnx" });
  const hanging = Array.from({ length: 6 }, (_, n) => `hangs-${n}`);
  const over = new AbortController();
  for (const name of hanging) {
    const script = (request: { readonly method?: string | undefined }, response: ServerResponse): void =>
      trickle(request.method === "HEAD", response);
    for (const path of [`/models/${name}`, `/models/${name}?x-id=GetObject`]) web.scripts.set(path, Array(20).fill(script));
    await register(name, { storageUri: `s3://models/${name}`, storageKey: "refused" });
  }
  const waiting = hanging.map((name) =>
    fetch(`${fleet.restUrl}/v2/models/${name}/infer`, { method: "POST", body: JSON.stringify(body), signal: over.signal }).then(
      ({ status }) => status,
      () => "waited",
    ),
  );
  const bodies = (): number => new Set(web.requests.filter(({ path }) => path.includes("hangs-")).map(({ path }) => path)).size;
  await waitUntil("the first ones are being fetched", bodies, (count) => count >= 3);
  const startMs = performance.now();
  const answer = await infer("healthy");
  assert.equal(answer.status, 200, answer.text);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 15_000, `a healthy model waited ${tookMs.toFixed(0)} ms`);
  over.abort();
  assert.deepEqual([...new Set(await Promise.all(waiting))], ["waited"]);
});
