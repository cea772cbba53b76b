// The S3 store against a real server of that API, which takes any credentials; refusals by a scripted one.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request as ask, createServer } from "node:http";
import { test } from "node:test";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { openMoto } from "#test/storage/servers.ts";
import { openPullBench } from "../testing/bench.ts";
import { openTestWebServer } from "../testing/webserver.ts";
import { describeStore } from "./suite.ts";

const keys = { access_key_id: "AKIATEST", secret_access_key: "s3cret" };

describeStore("the S3 store", async () => {
  const server = await openMoto();
  const credentials = { accessKeyId: keys.access_key_id, secretAccessKey: keys.secret_access_key };
  const client = new S3Client({ endpoint: server.url, region: "us-east-1", forcePathStyle: true, credentials });
  await client.send(new CreateBucketCommand({ Bucket: "models-bucket" }));
  return {
    async put(path, content): Promise<void> {
      await client.send(new PutObjectCommand({ Bucket: "models-bucket", Key: path, Body: content }));
    },
    uri: (path) => `s3://models-bucket/${path}`,
    entries: { good: { type: "s3", ...keys, endpoint_url: server.url, region: "us-east-1", default_bucket: "elsewhere" } },
    parameters: { type: "s3", bucket: "models-bucket" },
    absentRoot: "s3://absent-bucket/x",
    stop: () => server.stop(),
    async [Symbol.asyncDispose](): Promise<void> {
      client.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
});

const never = new AbortController().signal;

test("the S3 store tells bad credentials from a denied permission, and repeats no secret", async () => {
  await using server = await openTestWebServer();
  await using bench = await openPullBench();
  await bench.setEntry("default_s3", { type: "s3", ...keys, endpoint_url: server.url, region: "us-east-1" });
  const cases = [
    ["AccessDenied", 403, /permission to read s3:\/\/bucket\/.* is denied \(AccessDenied, status 403\)/],
    ["InvalidAccessKeyId", 403, /credentials are not accepted for s3:\/\/bucket\/.* \(InvalidAccessKeyId\)/],
    ["SignatureDoesNotMatch", 403, /credentials are not accepted for/],
    ["ExpiredToken", 400, /credentials are not accepted for/],
    ["SlowDown", 503, /store failed to give/],
  ] as const;
  for (const [code, status, expected] of cases) {
    const path = `/bucket/${code}`;
    server.scripts.set(path, [(_, response) => void response.writeHead(status === 400 ? 403 : status).end()]);
    server.scripts.set(`/bucket/?list-type=2&prefix=${code}%2F`, [
      (_, response) =>
        void response
          .writeHead(status, { "content-type": "application/xml" })
          .end(`<Error><Code>${code}</Code><Message>AKIATEST s3cret</Message></Error>`),
    ]);
    const pulled = await bench.puller.pull({ storageUri: `s3://bucket/${code}` }, never);
    assert.ok(pulled.kind === "failed" && pulled.failure === "storage", JSON.stringify(pulled));
    assert.match(pulled.reason, expected, JSON.stringify(server.requests.slice(-2)));
    assert.ok(!/s3cret|AKIATEST/.test(pulled.reason));
  }
});

test("the S3 store never sends an entry's credentials to a host that a parameter names", async () => {
  await using server = await openTestWebServer();
  await using bench = await openPullBench();
  await bench.setEntry("mine", { type: "s3", ...keys, endpoint_url: "http://127.0.0.1:1", region: "us-east-1" });
  const storageParameters = { endpoint_url: server.url };
  const named = await bench.puller.pull({ storageUri: "s3://bucket/x", storageKey: "mine", storageParameters }, never);
  assert.ok(named.kind === "failed" && named.failure === "model" && /cannot set the parameter endpoint_url/.test(named.reason));
  assert.equal(server.requests.length, 0);
  // Without an entry it is asked, without a signature.
  await bench.puller.pull({ storageUri: "s3://bucket/x", storageParameters }, never);
  assert.ok(server.requests.length > 0);
  for (const { headers } of server.requests) assert.equal(headers.authorization, undefined);
  await using strict = await openPullBench({ allowPrivate: false });
  const asked = server.requests.length;
  const refused = await strict.puller.pull({ storageUri: "s3://bucket/x", storageParameters }, never);
  assert.ok(refused.kind === "failed" && /private address/.test(refused.reason), JSON.stringify(refused));
  assert.equal(server.requests.length, asked);
});

for (const [name, checksum] of [
  ["the checksum that the client sent", { ChecksumAlgorithm: "CRC32" }],
  ["SHA-256", { ChecksumAlgorithm: "SHA256" }],
  ["SHA-1", { ChecksumAlgorithm: "SHA1" }],
] as const) {
  test(`a transfer that goes on where it was cut is held to the whole object's checksum: ${name}`, async () => {
    await using moto = await openMoto();
    const credentials = { accessKeyId: keys.access_key_id, secretAccessKey: keys.secret_access_key };
    const client = new S3Client({ endpoint: moto.url, region: "us-east-1", forcePathStyle: true, credentials });
    const content = randomBytes(1_000_000);
    await client.send(new CreateBucketCommand({ Bucket: "bucket" }));
    await client.send(new PutObjectCommand({ Bucket: "bucket", Key: "model.bin", Body: content, ...checksum }));
    client.destroy();
    await using proxy = await openFaultyProxy(moto.url, content.length / 2);
    await using bench = await openPullBench();
    await bench.setEntry("default_s3", { type: "s3", ...keys, endpoint_url: proxy.url, region: "us-east-1" });
    const pulled = await bench.puller.pull({ storageUri: "s3://bucket/model.bin" }, never);
    assert.ok(pulled.kind === "ok", JSON.stringify(pulled));
    assert.ok((await readFile(pulled.path)).equals(content), "the right bytes in the end");
    await pulled.release();
    assert.deepEqual(proxy.ranges, [undefined, "bytes=500000-", undefined]);
  });
}

interface FaultyProxy extends AsyncDisposable {
  readonly url: string;
  /** Of the objects that were asked for. */
  readonly ranges: readonly (string | undefined)[];
}

/** Cuts the first object off after so many bytes, and gives one wrong byte in the part that is asked for then. */
async function openFaultyProxy(to: string, cutAt: number): Promise<FaultyProxy> {
  const ranges: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    const isObject = request.method === "GET" && request.url?.includes("list-type") !== true;
    const turn = isObject ? ranges.push(request.headers.range) : 0;
    const asked = ask(`${to}${request.url}`, { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => void chunks.push(chunk));
      answer.on("end", () => {
        const body = Buffer.concat(chunks);
        if (turn === 1) return void response.write(body.subarray(0, cutAt), () => response.destroy());
        if (turn === 2) body[0] = (body[0] ?? 0) ^ 1;
        return void response.end(body);
      });
    });
    request.pipe(asked);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    url: `http://127.0.0.1:${address.port}`,
    ranges,
    async [Symbol.asyncDispose](): Promise<void> {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
