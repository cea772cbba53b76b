// One tenant takes as much as its quota allows and no more, in a real fleet, however hard it tries: hits, cold models, models
// that do not exist, memory. The other one beside it notices nothing. Requests over a quota are refused by Envoy alone.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Agent, Client, request } from "undici";
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
const models = 120;

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly retryAfter: string | undefined;
  readonly waited: boolean;
}

describe("a tenant is held to its quota, and others notice nothing", () => {
  let folder: RunFolder;
  let fleet: TestFleet;
  let keys: { readonly greedy: string; readonly modest: string };
  const agent = new Agent({ connections: 64, pipelining: 1 });

  before(async () => {
    folder = await openRunFolder();
    const authFile = join(folder.path, "auth.yaml");
    await writeFile(authFile, "apiKeys: true\n");
    fleet = await openFleet({ pods: 2, authFile });
    await putCopies(
      fleet,
      ["greedy", "modest"].flatMap((tenant) => Array.from({ length: models }, (_, at) => [`${tenant}-${at}`, tenant] as const)),
    );
    keys = { greedy: await makeKey("greedy"), modest: await makeKey("modest") };
    await waitFor(async () => (await infer("greedy-0", keys.greedy)).status === 200, patience);
    await waitFor(async () => (await infer("modest-0", keys.modest)).status === 200, patience);
  });
  after(async () => {
    await agent.destroy();
    await fleet?.[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  async function makeKey(principal: string): Promise<string> {
    const made = await fleet.manage("POST", "/api/v1/keys", { principal });
    assert.equal(made.status, 201, made.text);
    return (made.json as { key: string }).key;
  }

  async function ask(path: string, key: string, sent = body): Promise<Answer> {
    const answer = await request(`${fleet.restUrl}${path}`, {
      method: "POST",
      dispatcher: agent,
      headers: { "x-api-key": key },
      body: sent,
    });
    const { "retry-after": retryAfter } = answer.headers;
    return {
      status: answer.statusCode,
      text: await answer.body.text(),
      retryAfter: typeof retryAfter === "string" ? retryAfter : undefined,
      waited: answer.headers["x-warm-load-ms"] !== undefined,
    };
  }

  function infer(model: string, key: string): Promise<Answer> {
    return ask(`/v2/models/${model}/infer`, key);
  }

  async function setQuota(limits: Readonly<Record<string, number>>): Promise<void> {
    const put = await fleet.manage("PUT", "/api/v1/quotas/greedy", { tenants: ["greedy"], ...limits });
    assert.equal(put.status, 200, put.text);
  }

  async function endQuota(): Promise<void> {
    await fleet.manage("DELETE", "/api/v1/quotas/greedy");
    await waitFor(async () => {
      const answers = await Promise.all(Array.from({ length: 30 }, () => infer("greedy-0", keys.greedy)));
      return answers.every(({ status }) => status === 200);
    }, patience);
  }

  /** What the modest tenant is answered while `attack` runs: of a warm model, and of cold ones from `cold` on. */
  async function beside(attack: () => Promise<unknown>, cold?: number): Promise<readonly Answer[]> {
    const over = new AbortController();
    const attacked = attack().finally(() => over.abort());
    const seen: Answer[] = [];
    for (let at = 0; !over.signal.aborted || at < 20; at++) {
      const name = cold !== undefined && at % 10 === 5 ? (cold + at / 5) % models : 0;
      seen.push(await infer(`modest-${Math.floor(name)}`, keys.modest));
    }
    await attacked;
    return seen;
  }

  function assertWell(answers: readonly Answer[]): void {
    const odd = answers.find(({ status }) => status !== 200);
    assert.equal(odd, undefined, `${answers.length} answers, one of them ${odd?.status} ${odd?.text}`);
  }

  async function stats(): Promise<number> {
    return (await fleet.stats()).javascriptRequests;
  }

  async function metric(name: string): Promise<number> {
    const { text } = await fleet.manage("GET", "/metrics");
    const line = text.split("\n").find((each) => each.startsWith(name));
    return Number(line?.split(" ").at(-1) ?? Number.NaN);
  }

  test("strangers, where nothing is open to them, are answered by Envoy alone", async () => {
    const before = await stats();
    for (let at = 0; at < 50; at++) {
      const answer = await request(`${fleet.restUrl}/v2/models/${at % 2 === 0 ? "greedy-0" : `absent-${at}`}/infer`, {
        method: "POST",
        body,
      });
      assert.equal(answer.statusCode, 401);
      assert.deepEqual(await answer.body.json(), { error: "this needs an API key, a token or a client certificate" });
    }
    assert.equal(await stats(), before);
    assert.equal((await request(`${fleet.restUrl}/v2/health/live`)).statusCode, 200);
  });

  test("without a quota nothing is refused, and no route makes the filter", async () => {
    const answers = await Promise.all(Array.from({ length: 100 }, () => infer("greedy-0", keys.greedy)));
    assertWell(answers);
    const routes = await fleet.envoyConfig("dynamic_route_configs").catch(() => "");
    const named = JSON.stringify(JSON.parse(await fleet.envoyConfig("")));
    assert.ok(routes === "" || routes.includes("warm.limit"));
    assert.match(named, /"warm\.limit":\{"@type":"[^"]*FilterConfig","disabled":true\}/);
  });

  test("a flood of hits over the requests per second is answered by Envoy, and costs no JavaScript", async () => {
    await setQuota({ requestsPerSecond: 20 });
    await waitFor(
      async () =>
        (await Promise.all(Array.from({ length: 60 }, () => infer("greedy-0", keys.greedy)))).some(
          ({ status }) => status === 429,
        ),
      patience,
    );
    const before = await stats();
    const answers: Answer[] = [];
    const victim = await beside(async () => {
      for (let round = 0; round < 20; round++) {
        answers.push(...(await Promise.all(Array.from({ length: 50 }, () => infer("greedy-0", keys.greedy)))));
      }
    });
    const refused = answers.filter(({ status }) => status === 429);
    assert.ok(refused.length > 500, `${refused.length} of ${answers.length} were refused`);
    assert.deepEqual(statusesOf(answers), [200, 429]);
    for (const { text, retryAfter } of refused) {
      assert.equal(retryAfter, "1");
      assert.deepEqual(JSON.parse(text), { error: "this tenant's quota of requests per second is used up" });
    }
    assertWell(victim);
    assert.equal((await stats()) - before, 0);
    assert.ok((await metric('warmpath_quota_refusals_total{quota="requests"}')) >= refused.length);
  });

  test("its models that are cold or do not exist count as well, before the gateway is asked", async () => {
    const before = await stats();
    const flood = async (): Promise<readonly Answer[]> => {
      const answers: Answer[] = [];
      for (let round = 0; round < 10; round++)
        answers.push(...(await Promise.all(Array.from({ length: 50 }, (_, at) => infer(`absent-${round}-${at}`, keys.greedy)))));
      return answers;
    };
    let answers: readonly Answer[] = [];
    const victim = await beside(async () => {
      answers = await flood();
    }, 20);
    assertWell(victim);
    assert.deepEqual(statusesOf(answers), [404, 429]);
    const asked = (await stats()) - before;
    assert.ok(asked < 200 + victim.length, `${asked} requests of ${answers.length} came to the gateway`);
  });

  test("each protocol says it in its own form", async () => {
    const openai = await waitFor(async () => {
      const asked = () => ask("/v1/chat/completions", keys.greedy, JSON.stringify({ model: "greedy-0", messages: [] }));
      return (await Promise.all(Array.from({ length: 30 }, asked))).find(({ status }) => status === 429);
    }, patience);
    assert.deepEqual((JSON.parse(openai.text) as { error: unknown }).error, {
      message: "this tenant's quota of requests per second is used up",
      type: "rate_limit_error",
      param: null,
      code: 429,
    });
    await using grpc = await openGrpcClient(fleet.grpcTarget);
    const message = Buffer.concat([Buffer.from([0x0a, 8]), Buffer.from("greedy-0")]);
    const called = await waitFor(async () => {
      const call = () => grpc.call(inferencePath("ModelReady"), frameOf(message), { "x-api-key": keys.greedy });
      return (await Promise.all(Array.from({ length: 30 }, call))).find(({ status }) => status !== 0);
    }, patience);
    assert.equal(called.status, 8);
    assert.equal(called.message, "this tenant's quota of requests per second is used up");
    assert.equal(called.headers["retry-after"], "1");
    await endQuota();
  });

  test("a flood of cold models waits and loads no more than it may", async () => {
    await setQuota({ parkedRequests: 8, loadsUnderWay: 2, loadsPerMinute: 40 });
    await waitFor(async () => (await fleet.manage("GET", "/api/v1/quotas")).text.includes("loadsPerMinute"), patience);
    const answers: Answer[] = [];
    const victim = await beside(async () => {
      for (let round = 0; round < 4; round++) {
        answers.push(
          ...(await Promise.all(Array.from({ length: models - 1 }, (_, at) => infer(`greedy-${at + 1}`, keys.greedy)))),
        );
      }
    }, 40);
    assertWell(victim);
    assert.deepEqual(statusesOf(answers), [200, 429]);
    const loaded = answers.filter(({ waited, status }) => waited && status === 200).length;
    assert.ok(loaded >= 2 && loaded <= 100, `${loaded} of ${answers.length} requests waited for a load`);
    for (const { status, text, retryAfter } of answers) {
      if (status !== 429) continue;
      assert.match(text, /^\{"error":"[^"]*this tenant/);
      assert.ok(Number(retryAfter) >= 1);
    }
    const refusals = await Promise.all(
      ["loads", "load-rate"].map((quota) => metric(`warmpath_quota_refusals_total{quota="${quota}"}`)),
    );
    assert.ok(Math.max(...refusals) > 0, refusals.join());
    const use = (await fleet.manage("GET", "/api/v1/quotas")).json as { tenants: { tenant: string; parkedRequests: number }[] };
    assert.equal(use.tenants.find(({ tenant }) => tenant === "greedy")?.parkedRequests ?? 0, 0);
    await endQuota();
  });

  test("over its warm bytes a tenant's own copies leave, and nobody else's", async () => {
    // Anybody's warm bytes count from the moment that somebody is held to them.
    await setQuota({ warmBytes: 2 ** 40 });
    const warmBytes = async (tenant: string): Promise<number> => {
      const { json } = await fleet.manage("GET", "/api/v1/quotas");
      const { tenants } = json as { tenants: { tenant: string; warmBytes?: number }[] };
      return tenants.find((each) => each.tenant === tenant)?.warmBytes ?? Number.NaN;
    };
    await waitFor(async () => (await warmBytes("modest")) > 0, patience);
    const modest = Array.from({ length: 10 }, (_, at) => `modest-${at}`);
    for (const name of modest) assert.equal((await infer(name, keys.modest)).status, 200);
    const oneCopy = (await warmBytes("modest")) / (await readyOf("modest"));
    const limit = Math.round(oneCopy * 6);
    await setQuota({ warmBytes: limit });
    await waitFor(async () => (await fleet.manage("GET", "/api/v1/quotas")).text.includes(`${limit}`), patience);
    // What it has too much of leaves without its doing.
    await waitFor(async () => (await warmBytes("greedy")) <= limit, patience);
    const others = await readyNames("modest");
    for (let at = 0; at < 60; at++) {
      const answer = await infer(`greedy-${at}`, keys.greedy);
      assert.equal(answer.status, 200, `greedy-${at}: ${answer.text}`);
    }
    await waitFor(async () => (await warmBytes("greedy")) <= limit * 1.5, patience);
    assert.deepEqual(await readyNames("modest"), others);
    const before = await stats();
    for (const name of modest) assert.deepEqual(await infer(name, keys.modest).then(({ status }) => status), 200);
    assert.equal((await stats()) - before, 0, "each of the other's models is still a hit");

    await setQuota({ warmBytes: 1 });
    await waitFor(async () => {
      const answer = await infer("greedy-100", keys.greedy);
      return answer.status === 429 && /its tenant may have/.test(answer.text);
    }, patience);
    assert.ok((await metric('warmpath_quota_refusals_total{quota="warm-bytes"}')) > 0);
    await endQuota();
  });

  async function readyNames(tenant: string): Promise<readonly string[]> {
    const names: string[] = [];
    for (let at = 0; at < models; at++) {
      const { json } = await fleet.manage("GET", `/api/v1/models/${tenant}-${at}`);
      if ((json as { state?: string }).state === "ready" || /"ready":[1-9]/.test(JSON.stringify(json)))
        names.push(`${tenant}-${at}`);
    }
    return names;
  }

  async function readyOf(tenant: string): Promise<number> {
    return (await readyNames(tenant)).length;
  }
});

test("a tenant by certificate, whose hits make no filter otherwise, is held to its requests per second", async () => {
  await using folder = await openRunFolder();
  const authority = await createAuthority("clients", hourMs);
  const clientCaFile = join(folder.path, "clients.pem");
  await writeFile(clientCaFile, authority.cert);
  const authFile = join(folder.path, "auth.yaml");
  await writeFile(authFile, "apiKeys: false\nclientCertificates: dns\n");
  const certificate = async (name: string): Promise<{ cert: Buffer; key: Buffer }> => {
    const pair = await authority.issue([name], hourMs);
    return { cert: Buffer.from(pair.cert), key: Buffer.from(pair.key) };
  };
  const own = await certificate("team-a");
  await using fleet = await openFleet({ pods: 1, authFile, tls: { clientCaFile, client: own } });
  const ca = await readFile(join(fleet.stateFolder, "tls", "server", "ca.pem"));
  await putCopies(fleet, [
    ["own-a", "team-a"],
    ["own-b", "team-b"],
  ]);
  const clients = [
    new Client(fleet.restUrl, { connect: { ca, ...own } }),
    new Client(fleet.restUrl, { connect: { ca, ...(await certificate("team-b")) } }),
  ];
  const ask = async (which: number): Promise<string> => {
    const answer = await clients[which]!.request({
      method: "POST",
      path: `/v2/models/own-${which === 0 ? "a" : "b"}/infer`,
      body,
    });
    await answer.body.dump();
    return `${answer.statusCode}${answer.headers["x-warm-load-ms"] === undefined ? "" : " waited"}`;
  };
  const many = async (which: number): Promise<readonly string[]> =>
    [...new Set(await Promise.all(Array.from({ length: 40 }, () => ask(which))))].toSorted();
  try {
    for (const which of [0, 1]) await waitFor(async () => (await ask(which)) === "200", patience);
    // Every tenant for itself, named or not.
    await fleet.manage("PUT", "/api/v1/quotas/all", { tenants: ["authenticated"], requestsPerSecond: 5 });
    await fleet.manage("PUT", "/api/v1/quotas/b", { tenants: ["team-b"], requestsPerSecond: 10_000 });
    await waitFor(async () => (await many(0)).includes("429"), patience);
    const before = (await fleet.stats()).javascriptRequests;
    const limited = await many(0);
    assert.ok(limited.includes("429") && limited.every((seen) => ["200", "429"].includes(seen)), limited.join());
    assert.deepEqual(await many(1), ["200"]);
    assert.equal((await fleet.stats()).javascriptRequests, before);
    await fleet.manage("DELETE", "/api/v1/quotas/all");
    await fleet.manage("DELETE", "/api/v1/quotas/b");
    await waitFor(async () => (await many(0)).join() === "200", patience);
  } finally {
    for (const client of clients) await client.destroy();
  }
});

function statusesOf(answers: readonly Answer[]): readonly number[] {
  return [...new Set(answers.map(({ status }) => status))].toSorted((a, b) => a - b);
}

/** The same artefact as another model's, under other names. */
async function putCopies(fleet: TestFleet, names: readonly (readonly [name: string, tenant: string])[]): Promise<void> {
  await using registry = await openRegistry({ kind: "embedded", file: fleet.registryFile });
  const known = await getModel(registry, "iris-t0001");
  for (const [name, tenant] of names) {
    const model = parseModel({ ...known!.model, name, tenant });
    assert.ok(model.kind === "ok");
    assert.equal((await putModel(registry, model.model)).kind, "ok");
  }
}
