// A pull that nobody wants any more ends its transfer at once, whichever provider's client makes it; what came of it is no artefact.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, request as forward, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { BlobServiceClient } from "@azure/storage-blob";
import { Storage } from "@google-cloud/storage";
import { waitFor } from "#platform/testing.ts";
import { azuriteAccount, azuriteKey, openAzurite, openFakeGcs, openMoto, type StorageServer } from "#test/storage/servers.ts";
import { openPullBench } from "../testing/bench.ts";

const mebibyte = 2 ** 20;
const content = randomBytes(8 * mebibyte);
const bucket = "models-bucket";
const never = new AbortController().signal;

const connect = (url: string): string =>
  `DefaultEndpointsProtocol=http;AccountName=${azuriteAccount};AccountKey=${azuriteKey};BlobEndpoint=${url}/${azuriteAccount};`;

interface Kind {
  readonly name: string;
  readonly uri: string;
  open(): Promise<StorageServer>;
  put(url: string): Promise<void>;
  entry(url: string): unknown;
}

const kinds: readonly Kind[] = [
  {
    name: "S3",
    uri: `s3://${bucket}/large.bin`,
    open: openMoto,
    async put(endpoint): Promise<void> {
      const credentials = { accessKeyId: "any", secretAccessKey: "any" };
      const client = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true, credentials });
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: "large.bin", Body: content }));
      client.destroy();
    },
    entry: (url) => ({ type: "s3", access_key_id: "any", secret_access_key: "any", endpoint_url: url, region: "us-east-1" }),
  },
  {
    name: "Google Cloud Storage",
    uri: `gs://${bucket}/large.bin`,
    open: openFakeGcs,
    async put(url): Promise<void> {
      const client = new Storage({ apiEndpoint: url, projectId: "test", useAuthWithCustomEndpoint: false });
      await client.createBucket(bucket);
      await client.bucket(bucket).file("large.bin").save(content, { resumable: false });
    },
    entry: (url) => ({ type: "gcs", endpoint_url: url, bucket }),
  },
  {
    name: "Azure's blobs",
    uri: `azure://${bucket}/large.bin`,
    open: openAzurite,
    async put(url): Promise<void> {
      const container = BlobServiceClient.fromConnectionString(connect(url)).getContainerClient(bucket);
      await container.create();
      await container.getBlockBlobClient("large.bin").uploadData(content);
    },
    entry: (url) => ({ type: "azure", connection_string: connect(url) }),
  },
];

interface Dam extends AsyncDisposable {
  readonly url: string;
  /** Answers of which the first part went through, and no more. */
  readonly held: readonly ServerResponse[];
  /** From now on all goes through. */
  lift(): void;
}

/** A server before the server, that stops in the middle of large answers. */
async function openDam(target: string): Promise<Dam> {
  const held: ServerResponse[] = [];
  let lifted = false;
  const server: Server = createServer((asked, answer) => {
    const { hostname, port } = new URL(target);
    const passed = forward({ hostname, port, method: asked.method, path: asked.url, headers: asked.headers }, (given) => {
      answer.writeHead(given.statusCode ?? 502, given.headers);
      let bytes = 0;
      given.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        answer.write(chunk);
        if (lifted || bytes < mebibyte || held.includes(answer)) return;
        given.pause();
        held.push(answer);
      });
      given.on("end", () => answer.end());
      answer.on("close", () => given.destroy());
    });
    passed.on("error", () => answer.destroy());
    asked.pipe(passed);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    held,
    lift: () => (lifted = true),
    async [Symbol.asyncDispose](): Promise<void> {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

for (const { name, uri, open, put, entry } of kinds) {
  test(`${name}: a pull that is given up ends its transfer, and a later one gives the whole`, {
    timeout: 1_800_000,
  }, async () => {
    await using server = await open();
    await put(server.url);
    await using dam = await openDam(server.url);
    await using bench = await openPullBench();
    await bench.setEntry("good", entry(dam.url));
    const artefact = { storageUri: uri, storageKey: "good" };
    const given = new AbortController();
    const pulled = assert.rejects(bench.puller.pull(artefact, given.signal), /no more/);
    await waitFor(() => dam.held.length > 0, { timeoutMs: 120_000 });
    given.abort(new Error("no more"));
    await pulled;
    await waitFor(() => dam.held.every(({ destroyed }) => destroyed), { timeoutMs: 120_000 });
    dam.lift();
    const whole = await bench.puller.pull(artefact, never);
    assert.ok(whole.kind === "ok", JSON.stringify(whole));
    assert.ok(content.equals(await readFile(whole.path)));
  });
}
