// The store for Azure's blob storage against the emulator, which checks signatures.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BlobServiceClient } from "@azure/storage-blob";
import { azuriteAccount, azuriteKey, openAzurite } from "#test/storage/servers.ts";
import { openPullBench } from "../testing/bench.ts";
import { describeStore, type StoreHarness } from "./suite.ts";

const connect = (url: string, key: string): string =>
  `DefaultEndpointsProtocol=http;AccountName=${azuriteAccount};AccountKey=${key};BlobEndpoint=${url}/${azuriteAccount};`;

describeStore("the store of Azure's blobs", openHarness, { manyFiles: 60 });

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
