// Who may call which model, in a real fleet: Envoy finds out who calls, by key, token or certificate, and finds no route
// for who was not let in; the gateway lets in, once for each caller and model. A hit stays a hit.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { Client } from "undici";
import { parseModel } from "#core/model.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { getModel, putModel } from "#platform/registry/records.ts";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { createAuthority } from "#platform/tls/authority.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, inferencePath, openGrpcClient } from "../harness/grpc.ts";

const patience = { timeoutMs: 60_000 };
const hourMs = 3_600_000;
const body = JSON.stringify({ inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] });

/** The issuer whose tokens Envoy remembers. */
const remembered = "https://remembered.example";

type Headers = Readonly<Record<string, string>>;

describe("callers prove who they are", () => {
  let folder: RunFolder;
  let fleet: TestFleet;
  let key: { readonly id: string; readonly key: string };
  let sign: (claims: Record<string, unknown>, options?: { issuer?: string; audience?: string; ends?: string }) => Promise<string>;

  before(async () => {
    folder = await openRunFolder();
    const { publicKey, privateKey } = await generateKeyPair("ES256");
    await writeFile(
      join(folder.path, "jwks.json"),
      JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "k", alg: "ES256" }] }),
    );
    sign = async (claims, { issuer = "https://issuer.example", audience = "warmpath", ends = "1h" } = {}) =>
      await new SignJWT(claims)
        .setProtectedHeader({ alg: "ES256", kid: "k" })
        .setIssuer(issuer)
        .setAudience(audience)
        .setExpirationTime(ends)
        .sign(privateKey);
    const authFile = join(folder.path, "auth.yaml");
    await writeFile(
      authFile,
      `jwt:
  - name: corp
    issuer: https://issuer.example
    audiences: [warmpath]
    principalClaim: tenant
    jwks: { file: ${join(folder.path, "jwks.json")} }
  - name: remembered
    issuer: ${remembered}
    audiences: [warmpath]
    principalClaim: tenant
    jwks: { file: ${join(folder.path, "jwks.json")} }
    rememberTokens: 100
`,
    );
    fleet = await openFleet({ pods: 1, authFile });
    // The library's models are nobody's.
    await putCopy(fleet, "own-a-of-a-tenant-with-a-long-name", "team-a");
    await putCopy(fleet, "own-b", "team-b");
    await putCopy(fleet, "demo", undefined);
    const made = await fleet.manage("POST", "/api/v1/keys", { principal: "team-a" });
    assert.equal(made.status, 201, made.text);
    key = made.json as { id: string; key: string };
    await fleet.manage("PUT", "/api/v1/policies/demo", { callers: ["everybody"], models: { names: ["demo"] } });
    await waitFor(async () => (await infer("own-a-of-a-tenant-with-a-long-name", { "x-api-key": key.key })) === 200, patience);
    await waitFor(async () => (await infer("demo")) === 200, patience);
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  async function ask(
    path: string,
    headers: Headers = {},
  ): Promise<{ readonly status: number; readonly text: string; readonly waited: boolean }> {
    const client = new Client(fleet.restUrl);
    try {
      const answer = await client.request({ method: "POST", path, headers, body });
      return {
        status: answer.statusCode,
        text: await answer.body.text(),
        waited: answer.headers["x-warm-load-ms"] !== undefined,
      };
    } finally {
      await client.destroy();
    }
  }

  async function infer(model: string, headers: Headers = {}): Promise<number> {
    return (await ask(`/v2/models/${model}/infer`, headers)).status;
  }

  const bearer = (token: string): Headers => ({ authorization: `Bearer ${token}` });

  test("without credentials only what is open to everybody is answered, and nothing is told of the rest", async () => {
    assert.equal(await infer("demo"), 200);
    const [there, absent] = [
      await ask("/v2/models/own-a-of-a-tenant-with-a-long-name/infer"),
      await ask("/v2/models/absent/infer"),
    ];
    assert.deepEqual([there.status, absent.status], [401, 401]);
    assert.equal(there.text, absent.text);
    assert.match(there.text, /^\{"error":/);
  });

  test("a key, in any of its places, is its principal", async () => {
    assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", { "x-api-key": key.key }), 200);
    assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", bearer(key.key)), 200);
    assert.equal(await infer("own-b", { "x-api-key": key.key }), 403);
    assert.equal(await infer("demo", { "x-api-key": key.key }), 200);
    assert.equal(await infer("absent", { "x-api-key": key.key }), 404);
    assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", { "x-api-key": `${key.key.slice(0, -1)}~` }), 401);
    assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", { "x-api-key": "wk_" }), 401);
  });

  test("a token is the principal that its claim names, when it is for us, ours, and not over", async () => {
    assert.equal(await infer("own-b", bearer(await sign({ tenant: "team-b" }))), 200);
    assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", bearer(await sign({ tenant: "team-b" }))), 403);
    const bad = [
      await sign({ tenant: "team-b" }, { issuer: "https://other.example" }),
      await sign({ tenant: "team-b" }, { ends: "-1h" }),
      `${(await sign({ tenant: "team-a" })).split(".").slice(0, 2).join(".")}.${(await sign({ tenant: "team-b" })).split(".")[2]}`,
      "nonsense",
    ];
    // Envoy's own word for a good token that is meant for somebody else.
    assert.equal(await infer("own-b", bearer(await sign({ tenant: "team-b" }, { audience: "somebody" }))), 403);
    for (const token of bad) assert.equal(await infer("own-b", bearer(token)), 401, token);
    // A token without the claim, or with what no principal can be, proves nothing.
    assert.equal(await infer("own-b", bearer(await sign({}))), 401);
    assert.equal(await infer("own-b", bearer(await sign({ tenant: "~" }))), 401);
    assert.equal(await infer("own-b", bearer(await sign({ tenant: "team-a,team-b" }))), 401);
  });

  test("a token that is remembered is checked but for its signature, and only the very same one", async () => {
    const hits = async (): Promise<number> =>
      (await fleet.envoyStats("jwt_cache_hit")).values().reduce((sum, count) => sum + count, 0);
    const token = await sign({ tenant: "team-b" }, { issuer: remembered });
    for (let at = 0; at < 20; at++) assert.equal(await infer("own-b", bearer(token)), 200);
    assert.ok((await hits()) > 0);
    const [head, , signature] = token.split(".");
    const forged = [head, (await sign({ tenant: "team-a" }, { issuer: remembered })).split(".")[1], signature].join(".");
    assert.equal(await infer("own-b", bearer(forged)), 401);
    assert.equal(await infer("own-b", bearer(await sign({ tenant: "team-a" }, { issuer: remembered }))), 403);
    assert.equal(await infer("own-b", bearer(await sign({ tenant: "team-b" }, { issuer: remembered, audience: "other" }))), 403);
    assert.equal(await infer("own-b", bearer(await sign({ tenant: "team-b" }, { issuer: remembered, ends: "-1h" }))), 401);
    const before = await hits();
    for (let at = 0; at < 5; at++) assert.equal(await infer("own-b", bearer(await sign({ tenant: "team-b" }))), 200);
    assert.equal(await hits(), before, "of the other issuer nothing is remembered");
  });

  test("what only Envoy may say of a caller counts for nothing from a client", async () => {
    for (const name of ["x-warm-principal", "x-warm-caller"]) {
      for (const value of ["team-a", "~", "cert:team-a"])
        assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", { [name]: value }), 401);
    }
  });

  test("a hit of who was let in runs no JavaScript", async () => {
    const headers = { "x-api-key": key.key };
    await waitFor(async () => !(await ask("/v2/models/own-a-of-a-tenant-with-a-long-name/infer", headers)).waited, patience);
    const before = (await fleet.stats()).javascriptRequests;
    for (let at = 0; at < 50; at++) {
      const answer = await ask("/v2/models/own-a-of-a-tenant-with-a-long-name/infer", headers);
      assert.deepEqual([answer.status, answer.waited], [200, false]);
    }
    for (let at = 0; at < 50; at++) assert.equal(await infer("demo"), 200);
    assert.equal((await fleet.stats()).javascriptRequests, before);
  });

  test("over gRPC the codes are gRPC's, and lists show what the caller may call", async () => {
    await using grpc = await openGrpcClient(fleet.grpcTarget);
    const ready = async (model: string, headers: Headers = {}): Promise<number | undefined> => {
      const message = Buffer.concat([Buffer.from([0x0a, model.length]), Buffer.from(model)]);
      return (await grpc.call(inferencePath("ModelReady"), frameOf(message), headers)).status;
    };
    assert.equal(await ready("own-a-of-a-tenant-with-a-long-name", { "x-api-key": key.key }), 0);
    assert.equal(await ready("own-b", { "x-api-key": key.key }), 7);
    assert.equal(await ready("own-a-of-a-tenant-with-a-long-name"), 16);
    assert.equal(await ready("own-a-of-a-tenant-with-a-long-name", { "x-api-key": "wk_x" }), 16);
    assert.equal(await ready("own-b", bearer(await sign({ tenant: "team-b" }))), 0);
    assert.equal((await grpc.call(inferencePath("ServerLive"), frameOf(Buffer.alloc(0)))).status, 0);
    const index = async (headers: Headers = {}): Promise<string> =>
      (await grpc.call(inferencePath("RepositoryIndex"), frameOf(Buffer.alloc(0)), headers)).body.toString("latin1");
    assert.match(await index({ "x-api-key": key.key }), /own-a-of-a-tenant-with-a-long-name/);
    assert.doesNotMatch(await index({ "x-api-key": key.key }), /own-b/);
    assert.doesNotMatch(await index(), /own-/);
    assert.doesNotMatch((await ask("/v2/repository/index")).text, /own-/);
  });

  test("a policy lets in and, taken back, turns away, warm or not", async () => {
    const token = bearer(await sign({ tenant: "team-b" }));
    assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", token), 403);
    await fleet.manage("PUT", "/api/v1/policies/shared", { callers: ["team-b"], models: { names: ["own-*"] } });
    await waitFor(async () => (await infer("own-a-of-a-tenant-with-a-long-name", token)) === 200, patience);
    await waitFor(async () => !(await ask("/v2/models/own-a-of-a-tenant-with-a-long-name/infer", token)).waited, patience);
    await fleet.manage("DELETE", "/api/v1/policies/shared");
    await waitFor(async () => (await infer("own-a-of-a-tenant-with-a-long-name", token)) === 403, patience);
    assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", { "x-api-key": key.key }), 200);
  });

  test("a revoked key is worth nothing", async () => {
    const made = (await fleet.manage("POST", "/api/v1/keys", { principal: "team-a" })).json as { id: string; key: string };
    await waitFor(async () => (await infer("own-a-of-a-tenant-with-a-long-name", { "x-api-key": made.key })) === 200, patience);
    await fleet.manage("DELETE", `/api/v1/keys/${made.id}`);
    await waitFor(async () => (await infer("own-a-of-a-tenant-with-a-long-name", { "x-api-key": made.key })) === 401, patience);
  });

  test("a gateway that was killed takes no scope from who was let in", async () => {
    const headers = { "x-api-key": key.key };
    await waitFor(async () => !(await ask("/v2/models/own-a-of-a-tenant-with-a-long-name/infer", headers)).waited, patience);
    const gateway = fleet.process("gateway");
    process.kill(gateway.pid!, "SIGKILL");
    await waitFor(async () => {
      const answer = await ask("/v2/models/own-a-of-a-tenant-with-a-long-name/infer", headers);
      assert.deepEqual([answer.status, answer.waited], [200, false]);
      return await fleet.management.isReady();
    }, patience);
    await fleet.whenServing();
    for (let at = 0; at < 20; at++)
      assert.deepEqual(
        await ask("/v2/models/own-a-of-a-tenant-with-a-long-name/infer", headers).then(({ waited }) => waited),
        false,
      );
  });

  test("where nothing is open to everybody strangers are turned away by Envoy alone, whatever they ask", async () => {
    await fleet.manage("DELETE", "/api/v1/policies/demo");
    const handled = async (): Promise<number> => (await fleet.stats()).javascriptRequests;
    await waitFor(async () => {
      const before = await handled();
      return (await infer("demo")) === 401 && (await handled()) === before;
    }, patience);
    const before = await handled();
    const paths = [
      "/v2/models/own-a-of-a-tenant-with-a-long-name/infer",
      "/v2/models/absent/infer",
      "/v1/models/own-a-of-a-tenant-with-a-long-name:predict",
      "/v1/chat/completions",
      "/v2/logging",
      "/x",
    ];
    const answers = await Promise.all(paths.map((path) => ask(path)));
    for (const { status, text } of answers) {
      assert.equal(status, 401);
      assert.deepEqual(
        JSON.parse(text).error.message ?? JSON.parse(text).error,
        "this needs an API key, a token or a client certificate",
      );
    }
    await using grpc = await openGrpcClient(fleet.grpcTarget);
    const message = frameOf(Buffer.from([0x0a, 4, ...Buffer.from("demo")]));
    const called = await grpc.call(inferencePath("ModelReady"), message);
    assert.deepEqual([called.status, called.message], [16, "this needs an API key, a token or a client certificate"]);
    assert.equal(await handled(), before);
    // What everybody may ask, and who has proved something, is as before.
    assert.equal((await grpc.call(inferencePath("ServerLive"), frameOf(Buffer.alloc(0)))).status, 0);
    assert.equal((await ask("/v2/health/live?x")).status, 200);
    assert.equal(await infer("own-a-of-a-tenant-with-a-long-name", { "x-api-key": key.key }), 200);
    assert.equal(await infer("own-b", bearer(await sign({ tenant: "team-b" }))), 200);
    await fleet.manage("PUT", "/api/v1/policies/demo", { callers: ["everybody"], models: { names: ["demo"] } });
    await waitFor(async () => (await infer("demo")) === 200, patience);
  });

  test("keys are kept nowhere: not in the registry, the logs, or Envoy", async () => {
    const files = [
      fleet.registryFile,
      `${fleet.registryFile}-wal`,
      ...["gateway", "envoy", "pod-0-adapter", "pod-0-server"].map((name) => join(fleet.logFolder, `${name}.log`)),
    ];
    for (const file of files) assert.ok(!(await readFile(file, "latin1").catch(() => "")).includes(key.key), file);
    assert.ok(!(await fleet.envoyConfig("dynamic_listeners").catch(() => "")).includes(key.key));
    assert.ok(!(await fleet.manage("GET", "/api/v1/keys")).text.includes(key.key));
  });
});

test("a client's certificate is its principal, before any filter", async () => {
  await using folder = await openRunFolder();
  const authority = await createAuthority("clients", hourMs);
  const clientCaFile = join(folder.path, "clients.pem");
  await writeFile(clientCaFile, authority.cert);
  const authFile = join(folder.path, "auth.yaml");
  await writeFile(authFile, "apiKeys: false\nclientCertificates: dns\n");
  const client = async (...names: [string, ...string[]]): Promise<{ cert: Buffer; key: Buffer }> => {
    const pair = await authority.issue(names, hourMs);
    return { cert: Buffer.from(pair.cert), key: Buffer.from(pair.key) };
  };
  const own = await client("team-a");
  await using fleet = await openFleet({ pods: 1, authFile, tls: { clientCaFile, client: own } });
  const ca = await readFile(join(fleet.stateFolder, "tls", "server", "ca.pem"));
  await putCopy(fleet, "own-a-of-a-tenant-with-a-long-name", "team-a");
  const ask = async (as: { cert: Buffer; key: Buffer }): Promise<string> => {
    const rest = new Client(fleet.restUrl, { connect: { ca, ...as } });
    try {
      const answer = await rest.request({ method: "POST", path: "/v2/models/own-a-of-a-tenant-with-a-long-name/infer", body });
      await answer.body.dump();
      return `${answer.statusCode}${answer.headers["x-warm-load-ms"] === undefined ? "" : " waited"}`;
    } finally {
      await rest.destroy();
    }
  };
  await waitFor(async () => (await ask(own)).startsWith("200"), patience);
  await waitFor(async () => (await ask(own)) === "200", patience);
  const before = (await fleet.stats()).javascriptRequests;
  for (let at = 0; at < 20; at++) assert.equal(await ask(own), "200");
  assert.equal((await fleet.stats()).javascriptRequests, before);
  assert.equal(await ask(await client("team-b")), "403");
  assert.equal(await ask(await client("team-a", "team-b")), "401");
});

/** The same artefact as another model's, under another name. */
async function putCopy(fleet: TestFleet, name: string, tenant: string | undefined): Promise<void> {
  await using registry = await openRegistry({ kind: "embedded", file: fleet.registryFile });
  const known = await getModel(registry, "iris-t0001");
  const model = parseModel({ ...known!.model, name, ...(tenant === undefined ? {} : { tenant }) });
  assert.ok(model.kind === "ok");
  assert.equal((await putModel(registry, model.model)).kind, "ok");
}
