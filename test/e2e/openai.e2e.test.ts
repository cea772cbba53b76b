// OpenAI's API through Envoy: the model is named in the JSON body only.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { request } from "undici";
import { openRegistry } from "#platform/registry/open.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { type OpenaiServer, openOpenaiServer } from "../harness/openaiserver.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let server: OpenaiServer;

before(async () => {
  fleet = stack.use(await openFleet({ pods: 1 }));
  server = stack.use(await openOpenaiServer());
  const registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const address = server.address;
  stack.use(await openFakePod({ registry, podId: "llm-0", runtime: "llm", restAddress: address, grpcAddress: address }));
  await waitUntil(
    "the pod is linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 2,
  );
  for (const name of ["smol", "other", "model"]) await fleet.register(name, `file:///${name}.gguf`, "llm");
});

after(() => stack.disposeAsync());

async function post(
  path: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: unknown; waited: boolean }> {
  const answer = await request(`${fleet.restUrl}${path}`, {
    method: "POST",
    body,
    headers: { "content-type": "application/json", ...headers },
  });
  const text = await answer.body.text();
  const waited = answer.headers["x-warm-load-ms"] !== undefined;
  return { status: answer.statusCode, body: text.startsWith("{") ? JSON.parse(text) : text, waited };
}

const chat = (model: string, more: object = {}): string =>
  JSON.stringify({ messages: [{ role: "user", content: 'say "model": "nope" {[' }], model, ...more });

test("a cold model is loaded, a warm one is a hit; the path is as it was", async () => {
  const cold = await post("/v1/chat/completions", chat("smol"));
  assert.deepEqual([cold.status, cold.waited], [200, true]);
  const { javascriptRequests } = await waitUntil(
    "smol is routed",
    () => fleet.stats(),
    ({ warm }) => warm >= 1,
  );
  for (const path of ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/openai/v1/chat/completions"]) {
    const warm = await post(path, chat("smol"));
    assert.deepEqual([warm.status, warm.waited], [200, false], path);
    assert.deepEqual(server.asked.at(-1), { path: path.replace("/openai", ""), model: "smol" });
  }
  assert.equal((await fleet.stats()).javascriptRequests, javascriptRequests, "no JavaScript of ours on a hit");
});

test("a model may have the name of the member that names it", async () => {
  assert.equal((await post("/v1/chat/completions", chat("model"))).status, 200);
});

test("a streamed answer is not held back", async () => {
  for (const attempt of ["cold", "warm"]) {
    const answer = await request(`${fleet.restUrl}/v1/chat/completions`, {
      method: "POST",
      body: chat("other", { stream: true }),
    });
    assert.equal(answer.statusCode, 200);
    let seen = "";
    for await (const chunk of answer.body) {
      seen += String(chunk);
      // The server sends the rest only now that the first part has come through.
      if (seen.includes('"Pa"')) server.goOn();
    }
    assert.match(seen, /"ris"[^]*\[DONE\]/, attempt);
  }
});

const refusals: [what: string, body: string, status: number, says: RegExp][] = [
  ["an unknown model", chat("nope"), 404, /nope/],
  ["no model", '{"messages":[]}', 400, /names one model/],
  ["a model that is no text", '{"model":7}', 400, /names one model/],
  ["two models", '{"model":"smol","model":"other"}', 400, /names one model/],
  ["an escaped key", '{"mod\\u0065l":"smol","model":"other"}', 400, /names one model/],
  ["an escape in the name", '{"model":"sm\\u006fl"}', 400, /must not contain/],
  ["a slash in the name", chat("a/b"), 400, /must not contain '\/'/],
  ["a dot at the beginning", chat(".."), 400, /dot/],
  ["a slot in the name", chat("smol~1"), 400, /must not contain '~'/],
  ["a model further in", '{"a":{"model":"smol"}}', 400, /names one model/],
  ["a body cut off", '{"model":"smol"', 400, /names one model/],
  ["no JSON", "hello", 400, /names one model/],
  ["an empty body", "", 400, /names one model/],
];

for (const [what, body, status, says] of refusals) {
  test(`${what} is refused in OpenAI's form`, async () => {
    const before = server.asked.length;
    const refused = await post("/v1/chat/completions", body);
    assert.equal(refused.status, status, JSON.stringify(refused.body));
    const { error } = refused.body as { error: { message: string; type: string } };
    assert.match(error.message, says);
    assert.equal(error.type, "invalid_request_error");
    assert.equal(server.asked.length, before, "it reached no model server");
  });
}

test("a client cannot name one model in the path and another in the body", async () => {
  const before = server.asked.length;
  for (const headers of [{}, { "x-warm-model": "smol" }, { "x-warm-load-ms": "1" }]) {
    const refused = await post("/openai/models/smol/v1/chat/completions", chat("other"), headers);
    assert.equal(refused.status, 404, JSON.stringify(refused.body));
  }
  assert.equal(server.asked.length, before);
});

test("models are listed as both kinds of client read it", async () => {
  const answer = await request(`${fleet.restUrl}/v1/models`);
  const { models, data } = (await answer.body.json()) as { models: string[]; data: { id: string }[] };
  assert.ok(models.includes("smol"));
  assert.ok(data.some(({ id }) => id === "smol"));
});
