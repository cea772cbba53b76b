// Which of the stores' clients go through the proxy that the environment names, as docs/storage.md says it.
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import { after, before, describe, test } from "node:test";
import { openPullBench, type PullBench } from "../testing/bench.ts";

interface Recorder extends AsyncDisposable {
  readonly port: number;
  /** Methods and targets of what it was asked. */
  readonly asked: string[];
}

async function openRecorder(status: number): Promise<Recorder> {
  const asked: string[] = [];
  const server: Server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(status).end();
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "0.0.0.0", resolve);
  await promise;
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    port: address.port,
    asked,
    async [Symbol.asyncDispose](): Promise<void> {
      server.closeAllConnections();
      server.close();
    },
  };
}

const names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] as const;
/** The loopback has many addresses; this one is excepted. */
const exceptedHost = "127.0.0.2";

describe("with a proxy in the environment", () => {
  const stack = new AsyncDisposableStack();
  const own = names.map((name) => [name, process.env[name]] as const);
  let proxy: Recorder;
  let store: Recorder;
  let bench: PullBench;

  before(async () => {
    proxy = stack.use(await openRecorder(502));
    store = stack.use(await openRecorder(404));
    for (const name of names) delete process.env[name];
    // Read once by some clients.
    Object.assign(process.env, { HTTP_PROXY: `http://127.0.0.1:${proxy.port}`, NO_PROXY: exceptedHost });
    bench = stack.use(await openPullBench());
  });
  after(async () => {
    for (const [name, value] of own) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await stack.disposeAsync();
  });

  for (const [what, storageUri, heeds] of [
    ["S3", "s3://bucket/x", false],
    ["Google Cloud Storage", "gs://bucket/x", true],
    ["Azure", "azure://container/x", true],
    ["a web server", "http://HOST/x", false],
    ["a model hub", "hf://organisation/model", false],
    ["a registry", "oci://HOST/repository:tag", false],
  ] as const) {
    for (const excepted of [false, true]) {
      const proxied = heeds && !excepted;
      test(`${what}${excepted ? ", excepted," : ""} is asked ${proxied ? "through it" : "directly"}`, async ({ signal }) => {
        const host = `${excepted ? exceptedHost : "127.0.0.1"}:${store.port}`;
        const endpoint_url = `http://${host}`;
        await bench.setEntry("default_s3", { type: "s3", endpoint_url });
        await bench.setEntry("default_gcs", { type: "gcs", endpoint_url });
        const account = `AccountName=a;AccountKey=${Buffer.from("key").toString("base64")}`;
        const connection_string = `DefaultEndpointsProtocol=http;${account};BlobEndpoint=${endpoint_url}/a;`;
        await bench.setEntry("default_azure", { type: "azure", connection_string });
        await bench.setEntry("default_hf", { type: "hf", endpoint_url });
        for (const { asked } of [proxy, store]) asked.length = 0;
        const pulled = await bench.puller.pull({ storageUri: storageUri.replace("HOST", host) }, signal);
        assert.equal(pulled.kind, "failed");
        const [used, unused] = proxied ? [proxy, store] : [store, proxy];
        assert.ok(used.asked.length > 0, JSON.stringify(pulled));
        assert.deepEqual(unused.asked, []);
      });
    }
  }
});
