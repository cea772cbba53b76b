// Secrets that are planted in a whole fleet, where they belong and where they do not, stand nowhere else afterwards: not in
// logs, traces, etcd, metrics, Envoy's configuration or counters, files, command lines, or in what clients are told.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { Etcd3 } from "etcd3";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { openTestWebServer, type TestWebServer } from "#adapters/pull/testing/webserver.ts";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { type EtcdServer, openEtcd } from "../harness/etcd.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { createRestClient } from "../harness/http.ts";
import { type Collector, openCollector } from "../harness/otlp.ts";
import { waitUntil } from "../harness/wait.ts";
import { openMoto, type StorageServer } from "../storage/servers.ts";

/** None is like another, and none occurs by chance. */
const plant = (kind: string): string => `${kind}-${randomBytes(18).toString("hex")}`;
const secrets = {
  storageKey: plant("storage-key"),
  sessionToken: plant("session-token"),
  password: plant("password"),
  signature: plant("signature"),
  unknownKey: `wk_${randomBytes(32).toString("base64url")}`,
  bearer: plant("bearer"),
  managementToken: plant("management"),
  cookie: plant("cookie"),
  input: plant("input"),
};
type Secret = keyof typeof secrets | "apiKey" | "jwt";

describe("planted secrets", () => {
  let folder: RunFolder;
  let moto: StorageServer;
  let web: TestWebServer;
  let etcd: EtcdServer;
  let collector: Collector;
  let fleet: TestFleet;
  const planted = new Map<Secret, string>(Object.entries(secrets) as [Secret, string][]);
  /** What clients and those who manage were told. */
  const told: string[] = [];

  before(async () => {
    folder = await openRunFolder();
    [moto, web, etcd, collector] = await Promise.all([openMoto(), openTestWebServer(), openEtcd(), openCollector()]);
    const { publicKey, privateKey } = await generateKeyPair("ES256");
    const jwksFile = join(folder.path, "jwks.json");
    await writeFile(jwksFile, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "k", alg: "ES256" }] }));
    const authFile = join(folder.path, "auth.json");
    const issuer = { name: "corp", issuer: "https://issuer.example", audiences: ["warmpath"], jwks: { file: jwksFile } };
    await writeFile(authFile, JSON.stringify({ jwt: [issuer] }));
    const token = new SignJWT({}).setProtectedHeader({ alg: "ES256", kid: "k" }).setIssuer(issuer.issuer).setAudience("warmpath");
    planted.set("jwt", await token.setSubject("team").setExpirationTime("1h").sign(privateKey));

    const settings = join(folder.path, "settings");
    await mkdir(settings);
    const entry = { type: "s3", access_key_id: "AKIATEST", secret_access_key: secrets.storageKey, region: "us-east-1" };
    const good = { ...entry, endpoint_url: moto.url, default_bucket: "models" };
    await writeFile(join(settings, "default_s3"), JSON.stringify(good));
    await writeFile(
      join(settings, "refused"),
      JSON.stringify({ ...entry, session_token: secrets.sessionToken, endpoint_url: web.url }),
    );
    await writeFile(join(settings, "malformed"), `{"type":"s3","secret_access_key":"${secrets.storageKey}","endpoint_url":7}`);
    await writeFile(join(settings, "broken"), `{"type":"s3","secret_access_key":"${secrets.storageKey}"`);
    await writeFile(join(settings, "nowhere"), JSON.stringify({ ...entry, endpoint_url: "http://127.0.0.1:1" }));
    fleet = await openFleet({
      pods: 1,
      etcd,
      authFile,
      storageConfig: settings,
      tracing: { endpoint: collector.httpEndpoint, protocol: "http", share: 1 },
    });
    const client = new S3Client({
      endpoint: moto.url,
      region: "us-east-1",
      forcePathStyle: true,
      credentials: { accessKeyId: "AKIATEST", secretAccessKey: secrets.storageKey },
    });
    await client.send(new CreateBucketCommand({ Bucket: "models" }));
    const model = await readFile(join(fleet.libraryFolder, "models/iris/iris-t0001.onnx"));
    await client.send(new PutObjectCommand({ Bucket: "models", Key: "iris.onnx", Body: model }));
    client.destroy();
    await use();
  });
  after(async () => {
    for (const part of [fleet, collector, etcd, web, moto, folder]) await part?.[Symbol.asyncDispose]();
  });

  async function manage(
    method: "GET" | "PUT" | "POST" | "DELETE",
    path: string,
    body?: unknown,
  ): Promise<{ status: number; json: unknown }> {
    const answer = await fetch(`${fleet.adminUrl}${path}`, {
      method,
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        authorization: `Bearer ${secrets.managementToken}`,
        cookie: `warmpath=${secrets.cookie}`,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await answer.text();
    // Where it is made it is shown, and nowhere else.
    if (path !== "/api/v1/keys" || method !== "POST") told.push(text);
    return { status: answer.status, json: JSON.parse(text.startsWith("{") ? text : "{}") };
  }

  /** Everything that a day brings, mistakes included. */
  async function use(): Promise<void> {
    const made = await manage("POST", "/api/v1/keys", { principal: "team" });
    planted.set("apiKey", (made.json as { key: string }).key);
    await manage("PUT", "/api/v1/policies/all", { callers: ["team"] });
    await manage("PUT", "/api/v1/quotas/team", { tenants: ["team"], requestsPerSecond: 100_000 });
    const signed = `${web.url}/absent.onnx?X-Amz-Signature=${secrets.signature}`;
    const revisions: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
      good: { storageUri: "s3://models/iris.onnx" },
      refused: { storageUri: "s3://models/x", storageKey: "refused" },
      malformed: { storageUri: "s3://models/x", storageKey: "malformed" },
      broken: { storageUri: "s3://models/x", storageKey: "broken" },
      nowhere: { storageUri: "s3://models/x", storageKey: "nowhere" },
      absent: { storageUri: "s3://models/absent" },
      signed: { storageUri: signed },
    };
    for (const [name, revision] of Object.entries(revisions)) {
      assert.equal((await manage("PUT", `/api/v1/models/${name}`, { format: "onnx", ...revision })).status, 201, name);
    }
    // What holds a secret where none may be is refused, and not repeated.
    const bad: readonly unknown[] = [
      { format: "onnx", storageUri: `https://user:${secrets.password}@host.example/m` },
      { format: "onnx", storageUri: `s3://user:${secrets.password}@bucket/m` },
      { format: "onnx", storageUri: "s3://models/x", storageParameters: { secret_access_key: { of: secrets.password } } },
      { format: "onnx", storageUri: "s3://models/x", [secrets.password.slice(0, 8)]: secrets.password },
      `{"format": "onnx", "password": "${secrets.password}"`,
    ];
    for (const [at, body] of bad.entries()) assert.equal((await manage("PUT", `/api/v1/models/bad-${at}`, body)).status, 400);

    await using rest = createRestClient(fleet.restUrl);
    const input = { inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }], id: secrets.input };
    const credentials: readonly (readonly [string, string])[] = [
      ["x-api-key", planted.get("apiKey") ?? ""],
      ["authorization", `Bearer ${planted.get("apiKey")}`],
      ["authorization", `Bearer ${planted.get("jwt")}`],
      ["x-api-key", secrets.unknownKey],
      ["x-api-key", `${secrets.unknownKey}too-long`],
      ["authorization", `Bearer ${secrets.bearer}`],
      ["authorization", `Basic ${secrets.bearer}`],
      ["authorization", `Bearer ${planted.get("jwt")}x`],
      ["cookie", `session=${secrets.cookie}`],
    ];
    await waitUntil(
      "the key is known",
      async () =>
        (await rest.ask("/v2/models/good/infer", { headers: [["x-api-key", planted.get("apiKey") ?? ""]], body: input })).status,
      (status) => status === 200,
      60_000,
    );
    for (const header of credentials) {
      for (const name of [...Object.keys(revisions), "unknown"]) {
        const answer = await rest.ask(`/v2/models/${name}/infer`, {
          headers: [header, ["x-request-timeout-ms", "5000"]],
          body: input,
        });
        // What the model answers is the caller's: its own id is in it.
        if (answer.status !== 200) told.push(answer.text, JSON.stringify(answer.headers));
      }
      const malformed = await rest.ask("/v2/models/good/infer", { headers: [header], body: `{"inputs": "${secrets.input}` });
      told.push(malformed.text.replaceAll(secrets.input, ""));
      told.push(
        (await rest.ask("/v1/chat/completions", { headers: [header], body: `{"model": 1, "messages": "${secrets.input}"}` }))
          .text,
      );
    }
    await using grpc = await openGrpcClient(fleet.grpcTarget);
    for (const [name, value] of credentials) {
      const message = Buffer.concat([Buffer.from([0x0a, 7]), Buffer.from("refused")]);
      const answer = await grpc.call(inferencePath("ModelInfer"), frameOf(message), { [name]: value });
      told.push(answer.message, JSON.stringify(answer.headers));
    }
    for (const name of Object.keys(revisions)) {
      await manage("GET", `/api/v1/models/${name}/explain`);
      await manage("GET", `/api/v1/models/${name}/events`);
    }
    for (const path of ["/api/v1/keys", "/api/v1/policies", "/api/v1/quotas", "/api/v1/slow", "/metrics"])
      await manage("GET", path);
  }

  function found(text: string, but: readonly Secret[] = []): readonly string[] {
    return [...planted].flatMap(([kind, secret]) => (text.includes(secret) && !but.includes(kind) ? [kind] : []));
  }

  test("are found where they are: the test sees what it looks for", async () => {
    assert.deepEqual(found(await readFile(join(folder.path, "settings", "default_s3"), "utf8")), ["storageKey"]);
    assert.deepEqual(found([...planted.values()].join("\n")).length, planted.size);
  });

  test("are told to nobody", () => {
    assert.ok(told.length > 50);
    for (const text of told) assert.deepEqual(found(text), [], text.slice(0, 300));
  });

  test("stand in no log and no file", async () => {
    let files = 0;
    for (const start of [fleet.stateFolder, fleet.logFolder, fleet.runFolder]) {
      const entries = await readdir(start, { recursive: true, withFileTypes: true });
      for (const entry of entries.filter((each) => each.isFile())) {
        const file = join(entry.parentPath, entry.name);
        const hits = new Set<string>();
        let rest = "";
        for await (const chunk of createReadStream(file, "latin1")) {
          for (const kind of found(rest + String(chunk))) hits.add(kind);
          rest = String(chunk).slice(-2_000);
        }
        files += 1;
        assert.deepEqual([...hits], [], file);
      }
    }
    assert.ok(files > 5);
    for (const { message, keys } of fleet.log.lines) assert.deepEqual(found(`${message} ${JSON.stringify(keys)}`), []);
  });

  test("stand in no trace", async () => {
    await waitUntil(
      "traces came",
      () => collector.spans.length,
      (count) => count > 50,
      30_000,
    );
    assert.deepEqual(found(collector.raw()), []);
  });

  test("are not in etcd, but for what an address itself says", async () => {
    using client = new OpenEtcd(new Etcd3({ hosts: etcd.address }));
    const all = await client.of.getAll().strings();
    assert.ok(Object.keys(all).some((key) => key.includes("/keys/")));
    for (const [key, value] of Object.entries(all)) {
      // A signed address is what people gave as the model's address; it is told to nobody else.
      assert.deepEqual(found(key + value, key.endsWith("/models/signed") ? ["signature"] : []), [], key);
    }
  });

  test("are not in Envoy's configuration, counters or command line", async () => {
    assert.deepEqual(found(await fleet.envoyConfig("")), []);
    assert.deepEqual(found(JSON.stringify([...(await fleet.envoyStats("."))])), []);
    for (const { pid } of fleet.processes.values()) {
      assert.deepEqual(found(await readFile(`/proc/${pid}/cmdline`, "latin1")), []);
      assert.deepEqual(found(await readFile(`/proc/${pid}/environ`, "latin1")), []);
    }
  });
});

class OpenEtcd {
  readonly of: Etcd3;
  constructor(of: Etcd3) {
    this.of = of;
  }
  [Symbol.dispose](): void {
    this.of.close();
  }
}
