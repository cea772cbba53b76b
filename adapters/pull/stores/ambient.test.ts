// Credentials of the pod itself (--ambient-credentials): used where the settings have none, and for nobody who names a host.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { openPullBench } from "../testing/bench.ts";
import { openTestWebServer, type TestWebServer } from "../testing/webserver.ts";

const never = new AbortController().signal;

describe("credentials of the pod itself", () => {
  let server: TestWebServer;
  const set = new Map<string, string | undefined>();
  before(async () => {
    server = await openTestWebServer();
  });
  after(() => server?.[Symbol.asyncDispose]());
  afterEach(() => {
    for (const [name, value] of set) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    set.clear();
  });

  function setEnvironment(values: Readonly<Record<string, string>>): void {
    for (const [name, value] of Object.entries(values)) {
      set.set(name, process.env[name]);
      process.env[name] = value;
    }
  }

  function asAmazon(): void {
    setEnvironment({
      AWS_ACCESS_KEY_ID: "AKIAAMBIENT",
      AWS_SECRET_ACCESS_KEY: "ambient-s3cret",
      AWS_ENDPOINT_URL_S3: server.url,
      AWS_REGION: "us-east-1",
    });
  }

  /** What the requests since then have proved with, each once. */
  const proofs = (since: number): readonly (string | undefined)[] => [
    ...new Set(server.requests.slice(since).map(({ headers }) => headers.authorization?.replace(/\/.*$/, ""))),
  ];

  test("sign what is read from S3, when they are let", async () => {
    asAmazon();
    server.files.set("/models/iris.onnx", Buffer.from("iris"));
    const since = server.requests.length;
    await using bench = await openPullBench({ ambient: true });
    const pulled = await bench.puller.pull({ storageUri: "s3://models/iris.onnx" }, never);
    assert.equal(pulled.kind, "ok", pulled.kind === "failed" ? pulled.reason : "");
    assert.deepEqual(proofs(since), ["AWS4-HMAC-SHA256 Credential=AKIAAMBIENT"]);
  });

  test("sign nothing when they are not", async () => {
    asAmazon();
    server.files.set("/models/iris.onnx", Buffer.from("iris"));
    const since = server.requests.length;
    await using bench = await openPullBench();
    assert.equal((await bench.puller.pull({ storageUri: "s3://models/iris.onnx" }, never)).kind, "ok");
    assert.deepEqual(proofs(since), [undefined]);
  });

  test("never go to a host that a model names", async () => {
    asAmazon();
    server.files.set("/models/iris.onnx", Buffer.from("iris"));
    const since = server.requests.length;
    await using bench = await openPullBench({ ambient: true });
    const named = { storageUri: "s3://models/iris.onnx", storageParameters: { endpoint_url: server.url } };
    assert.equal((await bench.puller.pull(named, never)).kind, "ok");
    assert.deepEqual(proofs(since), [undefined]);
  });

  test("are asked for a token for Google's storage, when they are let", async () => {
    for (const ambient of [true, false]) {
      await using bench = await openPullBench({ ambient });
      const file = join(bench.folder, "account.json");
      const account = {
        type: "external_account",
        audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/pods",
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
        token_url: `${server.url}/token`,
        credential_source: { file },
      };
      await writeFile(file, JSON.stringify(account));
      setEnvironment({ GOOGLE_APPLICATION_CREDENTIALS: file });
      const since = server.requests.length;
      server.scripts.set("/token", [(_, response) => void response.writeHead(400).end('{"error":"invalid_grant"}')]);
      const pulled = await bench.puller.pull({ storageUri: "gs://models/iris.onnx" }, AbortSignal.timeout(20_000)).catch(() => ({
        kind: "failed",
      }));
      assert.equal(pulled.kind, "failed");
      assert.equal(
        server.requests.slice(since).some(({ path }) => path === "/token"),
        ambient,
      );
    }
  });
});
