// The store for Azure's blob storage against the emulator, which checks signatures.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { BlobServiceClient } from "@azure/storage-blob";
import { azuriteAccount, azuriteKey, openAzurite } from "#test/storage/servers.ts";
import { openPullBench } from "../testing/bench.ts";
import { describeStore, type StoreHarness } from "./suite.ts";

const connect = (url: string, key: string): string =>
  `DefaultEndpointsProtocol=http;AccountName=${azuriteAccount};AccountKey=${key};BlobEndpoint=${url}/${azuriteAccount};`;

describeStore("the store of Azure's blobs", openHarness);

async function openHarness(): Promise<StoreHarness> {
  const server = await openAzurite();
  const client = BlobServiceClient.fromConnectionString(connect(server.url, azuriteKey));
  const container = client.getContainerClient("models-container");
  await container.create();
  return {
    async put(path, content): Promise<void> {
      await container.getBlockBlobClient(path).uploadData(content);
    },
    uri: (path) => `azure://models-container/${path}`,
    entries: { good: { type: "azure", connection_string: connect(server.url, azuriteKey), container: "elsewhere" } },
    parameters: { type: "azure", container: "models-container" },
    absentRoot: "azure://absent-container/x",
    stop: () => server.stop(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

test("the store of Azure's blobs tells that its credentials are not accepted", async () => {
  await using server = await openAzurite();
  await using bench = await openPullBench();
  const wrong = Buffer.from("a wrong key that is long enough to be one").toString("base64");
  await bench.setEntry("default_azure", { type: "azure", connection_string: connect(server.url, wrong) });
  await bench.setEntry("odd", { type: "azure", connection_string: "AccountName" });
  const never = new AbortController().signal;
  const pulled = await bench.puller.pull({ storageUri: "azure://models/iris" }, never);
  assert.ok(pulled.kind === "failed" && pulled.failure === "storage", JSON.stringify(pulled));
  assert.match(pulled.reason, /credentials are not accepted|permission to read/);
  assert.ok(!pulled.reason.includes(wrong));
  const odd = await bench.puller.pull({ storageUri: "azure://models/iris", storageKey: "odd" }, never);
  assert.ok(odd.kind === "failed" && odd.failure === "storage" && /connection string/.test(odd.reason), JSON.stringify(odd));
});

// The emulator gives 5,000 on a page: so many take minutes to make.
for (const [what, second] of [
  ["every page of a list is read", undefined],
  ["a page that fails makes the pull fail, not the model small", 403],
] as const) {
  test(`the store of Azure's blobs: ${what}`, async () => {
    const blob = (name: string): string =>
      `<Blob><Name>many/${name}</Name><Properties><Content-Length>1</Content-Length><Etag>0x1</Etag><BlobType>BlockBlob</BlobType></Properties></Blob>`;
    const list = (names: readonly string[], next: string): string =>
      `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="models"><Blobs>${names.map(blob).join("")}</Blobs><NextMarker>${next}</NextMarker></EnumerationResults>`;
    const server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? "", "http://azure");
      if (searchParams.get("comp") === "list") {
        const isSecond = searchParams.get("marker") === "page-2";
        if (isSecond && second !== undefined) return void response.writeHead(second).end();
        response.writeHead(200, { "content-type": "application/xml" });
        return void response.end(isSecond ? list(["c"], "") : list(["a", "b"], "page-2"));
      }
      if (!/\/many\/[abc]$/.test(pathname)) return void response.writeHead(404, { "x-ms-error-code": "BlobNotFound" }).end();
      return void response.writeHead(200, { etag: '"0x1"', "content-length": 1, "x-ms-blob-type": "BlockBlob" }).end("x");
    });
    const listening = Promise.withResolvers<void>();
    server.listen(0, "127.0.0.1", listening.resolve);
    await listening.promise;
    await using bench = await openPullBench();
    try {
      const { port } = server.address() as AddressInfo;
      await bench.setEntry("default_azure", {
        type: "azure",
        connection_string: connect(`http://127.0.0.1:${port}`, azuriteKey),
      });
      const pulled = await bench.puller.pull({ storageUri: "azure://models/many" }, new AbortController().signal);
      if (second === undefined) {
        assert.ok(pulled.kind === "ok", JSON.stringify(pulled));
        assert.deepEqual((await readdir(pulled.path)).toSorted(), ["a", "b", "c"]);
      } else assert.ok(pulled.kind === "failed" && pulled.failure === "storage", JSON.stringify(pulled));
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
}

test("the credentials of an account go to Azure's hosts only, whatever host an address names", async () => {
  await using bench = await openPullBench();
  await bench.setEntry("default_azure", {
    type: "azure",
    account_name: "acc0unt",
    client_id: "id",
    client_secret: "s3cret",
    tenant_id: "tenant",
  });
  const never = new AbortController().signal;
  for (const host of ["acc0unt.blob.evil.example", "acc0unt.blob.core.windows.net.evil.example", "acc0unt.blob.localhost"]) {
    for (const storageKey of ["default_azure", undefined]) {
      const asked = storageKey === undefined ? {} : { storageKey };
      const pulled = await bench.puller.pull({ storageUri: `azure://${host}/models/m`, ...asked }, never);
      assert.ok(pulled.kind === "failed" && /must look like azure:/.test(pulled.reason), JSON.stringify(pulled));
      if (storageKey === undefined) continue;
      const web = await bench.puller.pull({ storageUri: `https://${host}/models/m`, ...asked }, never);
      assert.ok(web.kind === "failed" && /is of type azure/.test(web.reason), JSON.stringify(web));
    }
  }
});
