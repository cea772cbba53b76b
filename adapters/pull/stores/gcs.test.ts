// The store for Google Cloud Storage against a server of that API.
import { Storage } from "@google-cloud/storage";
import { openFakeGcs } from "#test/storage/servers.ts";
import { describeStore } from "./suite.ts";

describeStore("the store of Google Cloud Storage", async () => {
  const server = await openFakeGcs();
  const client = new Storage({ apiEndpoint: server.url, projectId: "test", useAuthWithCustomEndpoint: false });
  await client.createBucket("models-bucket");
  return {
    async put(path, content): Promise<void> {
      await client.bucket("models-bucket").file(path).save(content, { resumable: false });
    },
    uri: (path) => `gs://models-bucket/${path}`,
    entries: { good: { type: "gcs", endpoint_url: server.url, bucket: "elsewhere" } },
    parameters: { type: "gcs", bucket: "models-bucket" },
    absentRoot: "gs://absent-bucket/x",
    stop: () => server.stop(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
});
