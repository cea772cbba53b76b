// A model's revisions flip under traffic, over REST and gRPC: no request fails, every answer is one of the two revisions',
// and once a flip is told, answers are the new one's. Also while a model server dies.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { create } from "@bufbuild/protobuf";
import { Pool } from "undici";
import { createClient, type ServiceClient } from "#platform/grpc.ts";
import { GRPCInferenceService, ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let rest: Pool;
let grpc: ServiceClient<typeof GRPCInferenceService>;
const row = [5.1, 3.5, 1.4, 0.2];
const waitMs = 60_000;
/** Answers of the two revisions, by revision. */
const answers = new Map<string, string>();

const uriOf = (number: string): string => pathToFileURL(join(fleet.libraryFolder, `models/iris/iris-t${number}.onnx`)).href;
const specs: Record<string, () => { id: string; format: string; storageUri: string }> = {
  one: () => ({ id: "one", format: "onnx", storageUri: uriOf("0001") }),
  two: () => ({ id: "two", format: "onnx", storageUri: uriOf("0002") }),
};

before(async () => {
  fleet = stack.use(await openFleet({ pods: 3 }));
  rest = new Pool(fleet.restUrl, { connections: 16 });
  stack.defer(() => rest.destroy());
  grpc = stack.use(createClient(GRPCInferenceService, fleet.grpcTarget));
  for (const [id, spec] of Object.entries(specs)) {
    await fleet.register(`pure-${id}`, spec().storageUri);
    answers.set(id, await askRest(`pure-${id}`));
  }
  assert.notEqual(answers.get("one"), answers.get("two"));
  const { id, ...artefact } = specs["one"]!();
  const put = await fleet.manage("PUT", "/api/v1/models/flip", { ...artefact, revision: id });
  assert.equal(put.status, 201, put.text);
});

after(() => stack.disposeAsync());

async function askRest(name: string): Promise<string> {
  const answer = await rest.request({
    method: "POST",
    path: `/v2/models/${name}/infer`,
    body: JSON.stringify({ inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: row }] }),
    headersTimeout: waitMs,
  });
  const text = await answer.body.text();
  if (answer.statusCode !== 200) throw new Error(`${answer.statusCode} ${text}`);
  const { outputs } = JSON.parse(text) as { outputs: { data: number[] }[] };
  return keyOf(outputs.flatMap(({ data }) => data));
}

async function askGrpc(modelName: string): Promise<string> {
  const inputs = [{ name: "x", shape: [1n, 4n], datatype: "FP32", contents: { fp32Contents: row } }];
  const { outputs, rawOutputContents } = await grpc.modelInfer(create(ModelInferRequestSchema, { modelName, inputs }), {
    timeoutMs: waitMs,
  });
  const numbers = outputs.flatMap(({ contents, datatype }, at) => {
    const raw = rawOutputContents[at];
    if (raw === undefined) return [...(contents?.fp32Contents ?? []), ...(contents?.int64Contents ?? []).map(Number)];
    const bytes = Buffer.from(raw);
    return datatype === "INT64"
      ? Array.from({ length: bytes.length / 8 }, (_, i) => Number(bytes.readBigInt64LE(i * 8)))
      : Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4));
  });
  return keyOf(numbers);
}

/** JSON and protobuf write the same numbers with other digits. */
function keyOf(numbers: readonly number[]): string {
  return numbers
    .map((number) => number.toPrecision(4))
    .toSorted()
    .join(" ");
}

interface Traffic {
  readonly failures: string[];
  readonly count: () => number;
  stop(): Promise<void>;
}

function drive(workers: number): Traffic {
  const failures: string[] = [];
  let requests = 0;
  const over = new AbortController();
  const known = new Set(answers.values());
  const work = async (at: number): Promise<void> => {
    while (!over.signal.aborted) {
      requests += 1;
      try {
        const answer = await (at % 2 === 0 ? askRest("flip") : askGrpc("flip"));
        if (!known.has(answer)) failures.push(`an answer of neither revision: ${answer}`);
      } catch (error) {
        failures.push(String(error));
      }
    }
  };
  const working = Array.from({ length: workers }, (_, at) => work(at));
  return {
    failures,
    count: () => requests,
    async stop() {
      over.abort();
      await Promise.all(working);
    },
  };
}

async function flipTo(id: string): Promise<void> {
  const posted = await fleet.manage("POST", "/api/v1/models/flip/revisions", specs[id]!());
  assert.equal(posted.status, 200, posted.text);
  await waitUntil(
    `${id} is active`,
    async () => (await fleet.manage("GET", "/api/v1/models/flip")).json as Record<string, unknown>,
    (model) => model["active"] === id && model["target"] === undefined && model["acknowledged"] === true,
    waitMs,
  );
}

test("revisions flip under traffic without a failed request, back and forth", async () => {
  const loaded = await fleet.manage("POST", "/api/v1/models/flip/load", { copies: 2 });
  assert.equal(loaded.status, 200, loaded.text);
  const traffic = drive(6);
  for (let flip = 0; flip < 6; flip++) {
    const id = flip % 2 === 0 ? "two" : "one";
    await flipTo(id);
    assert.equal(await askRest("flip"), answers.get(id));
    assert.equal(await askGrpc("flip"), answers.get(id));
  }
  await traffic.stop();
  assert.deepEqual(traffic.failures, []);
  assert.ok(traffic.count() > 50, `${traffic.count()} requests`);
});

test("a revision that cannot be loaded leaves the active one serving, and the reason is told", async () => {
  const traffic = drive(4);
  const broken = { id: "broken", format: "onnx", storageUri: uriOf("9999") };
  assert.equal((await fleet.manage("POST", "/api/v1/models/flip/revisions", broken)).status, 200);
  const blocked = await waitUntil(
    "the transition is blocked",
    async () => (await fleet.manage("GET", "/api/v1/models/flip")).json as Record<string, unknown>,
    (model) => model["transition"] === "BlockedByFailedLoad",
    waitMs,
  );
  assert.equal(blocked["state"], "ready");
  assert.equal((blocked["failure"] as { code: string }).code, "model-load-failed");
  const back = await fleet.manage("POST", "/api/v1/models/flip/rollback");
  assert.equal(back.status, 200, back.text);
  await traffic.stop();
  assert.deepEqual(traffic.failures, []);
});

test("revisions flip while a model server dies", async () => {
  const traffic = drive(4);
  for (let flip = 0; flip < 4; flip++) {
    const id = flip % 2 === 0 ? "two" : "one";
    if (flip === 1) process.kill(fleet.process("pod-1-server").pid!, "SIGKILL");
    await flipTo(id);
    assert.equal(await askRest("flip"), answers.get(id));
  }
  await traffic.stop();
  assert.deepEqual(traffic.failures, []);
});
