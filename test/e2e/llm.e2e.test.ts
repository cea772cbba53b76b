// A real language model through Envoy: named in the body, loaded by the first request, its answer streamed as it is made.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { request } from "undici";
import { clientPython, runCases } from "../clients/environment.ts";
import { type AdapterPod, openAdapterPod } from "../harness/adapterpod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { type Llm, openLlm } from "../harness/llm.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let llm: Llm;
let adapter: AdapterPod;

before(async () => {
  llm = stack.use(await openLlm());
  fleet = stack.use(await openFleet({ pods: 1 }));
  const pod = { podId: "llm-0", runtime: "llm", driver: "openai-lora", restAddress: llm.address, grpcAddress: llm.address };
  const flags = { records: join(fleet.runFolder, "llm-copies") };
  adapter = stack.use(await openAdapterPod(fleet, { ...pod, capacityBytes: 2 ** 30, storageRoot: llm.models, flags }));
  for (const name of ["smol", "smol-two"]) await fleet.register(name, `file://${join(llm.models, "smol")}`, "lora");
});

after(() => stack.disposeAsync());

const question = { messages: [{ role: "user", content: "Tell me a long story about a ship." }], max_tokens: 96, stream: true };

async function generating(): Promise<number> {
  const answer = await request(`http://${llm.address}/generating`);
  return ((await answer.body.json()) as { generating: number }).generating;
}

test("OpenAI's own client: whole and streamed answers of a real model, cold and warm", { timeout: 200_000 }, async () => {
  const results = await runCases(await clientPython(), "llm_clients.py", [new URL(fleet.restUrl).host]);
  for (const { case: name, ok, saw } of results) assert.ok(ok, `${name}: ${saw}\n${adapter.tail()}\n${llm.tail()}`);
  assert.equal(results.length, 4);
});

test("the first words are there while the rest is still being made, and leaving ends the making", {
  timeout: 120_000,
}, async () => {
  const gone = new AbortController();
  const answer = await request(`${fleet.restUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...question, model: "smol" }),
    signal: gone.signal,
  });
  assert.equal(answer.statusCode, 200);
  assert.match(String(answer.headers["content-type"]), /text\/event-stream/);
  for await (const chunk of answer.body) {
    assert.match(String(chunk), /"delta"/);
    assert.equal(await generating(), 1, "the answer was held back until it was whole");
    break;
  }
  gone.abort();
  await waitUntil("nothing is being made for nobody", generating, (number) => number === 0, 5_000);
});

test("a model that the server forgot is loaded anew, and the client hears nothing of it", { timeout: 120_000 }, async () => {
  const unloaded = await request(`http://${llm.address}/v1/unload_lora_adapter`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ lora_name: "smol" }),
  });
  assert.equal(unloaded.statusCode, 200);
  const answer = await request(`${fleet.restUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...question, model: "smol", stream: false, max_tokens: 4 }),
  });
  assert.equal(answer.statusCode, 200, await answer.body.text());
});
