// A model whose requests go to two revisions in parts, and copies of them to a third: every protocol, the names that model
// servers and clients see, and what happens when a revision is not there. The model server answers under the name that it
// is asked by, as those of others do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Pool } from "undici";
import { type Model, parseModel } from "#core/model.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { putModel } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import {
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  ModelMetadataResponseSchema,
  ModelStreamInferResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { type FakePod, openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { type NamingServer, openNamingServer } from "../harness/namingserver.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let registry: Registry;
let server: NamingServer;
let mirror: NamingServer;
let pod: FakePod;
let rest: Pool;
let grpc: GrpcClient;

const revisions = [0, 1, 2].map((slot) => ({ id: `r${slot}`, slot, format: "any", storageUri: "file:///any" }));

before(async () => {
  fleet = stack.use(await openFleet({ pods: 1 }));
  server = stack.use(await openNamingServer());
  mirror = stack.use(await openNamingServer());
  registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const open = async (podId: string, at: NamingServer, runtime: string): Promise<FakePod> =>
    stack.use(await openFakePod({ registry, podId, runtime, restAddress: at.restAddress, grpcAddress: at.grpcAddress }));
  pod = await open("any-0", server, "any");
  await open("mirror-0", mirror, "mirror");
  await waitUntil(
    "the pods are linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 3,
  );
  rest = new Pool(fleet.restUrl, { connections: 16 });
  stack.defer(() => rest.destroy());
  grpc = stack.use(await openGrpcClient(fleet.grpcTarget));
});

after(() => stack.disposeAsync());

type Shares = Partial<Pick<Model, "split" | "mirror">> | Record<string, unknown>;

/** The revision in slot 2 is for pods of the mirror. */
async function put(name: string, more: Shares, active = "r0"): Promise<void> {
  const formats = revisions.map((revision) => (revision.slot === 2 ? { ...revision, format: "mirror" } : revision));
  const parsed = parseModel({ name, revisions: formats, active, ...more });
  assert.equal(parsed.kind, "ok", JSON.stringify(parsed));
  if (parsed.kind !== "ok") return;
  const { model } = parsed;
  assert.equal((await putModel(registry, model)).kind, "ok");
  await waitUntil(
    `${name} is known as it is now`,
    async () => JSON.parse((await fleet.manage("GET", `/api/v1/models/${name}`)).text) as Partial<Model>,
    ({ split, mirror, active: known }) =>
      isDeepStrictEqual([split, mirror, known], [model.split && [...model.split], model.mirror && { ...model.mirror }, active]),
  );
}

interface Seen {
  readonly copies: readonly { readonly revision: string; readonly state: string }[];
  readonly acknowledged: boolean;
}

/** All these revisions are held, and Envoy has what the table says. */
async function whenRouted(name: string, held: readonly string[]): Promise<void> {
  await waitUntil(
    `${name} is routed to ${held.join()}`,
    async () => {
      // Being used is what makes it load what it lacks.
      await infer(name);
      return JSON.parse((await fleet.manage("GET", `/api/v1/models/${name}`)).text) as Seen;
    },
    ({ copies, acknowledged }) =>
      acknowledged && held.every((id) => copies.some(({ revision, state }) => revision === id && state === "ready")),
    30_000,
  );
}

async function post(path: string, body: object | undefined, method: "GET" | "POST" = "POST"): Promise<string> {
  const answer = await rest.request({ path, method, body: body === undefined ? null : JSON.stringify(body) });
  const text = await answer.body.text();
  assert.equal(answer.statusCode, 200, text);
  assert.equal(answer.headers["x-warm-answer-name"], undefined);
  return text;
}

const infer = (name: string): Promise<string> => post(`/v2/models/${name}/infer`, { inputs: [] });

/** How often each name was asked for since then. */
function namesSince(at: number, of = server, call?: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const asked of of.asked.slice(at)) {
    if (call === undefined || asked.call === call) counts[asked.name] = (counts[asked.name] ?? 0) + 1;
  }
  return counts;
}

async function many(count: number, ask: () => Promise<unknown>): Promise<void> {
  for (let left = count; left > 0; left -= 50) await Promise.all(Array.from({ length: Math.min(50, left) }, ask));
}

/** Further away than six standard deviations: not once in a thousand million runs. */
function assertShare(got: number | undefined, of: number, percent: number): void {
  const p = percent / 100;
  const sigma = Math.sqrt(of * p * (1 - p));
  assert.ok(Math.abs((got ?? 0) - of * p) <= 6 * sigma, `${got} of ${of} are not ${percent} %`);
}

test("what a used model lacks is loaded; until then the active revision answers", async () => {
  await put("early", { split: [{ revision: "r1", percent: 100 }] });
  const at = server.asked.length;
  await infer("early");
  assert.deepEqual(namesSince(at), { early: 1 }, "the first request went to the active revision");
  await whenRouted("early", ["r0", "r1"]);
  const later = server.asked.length;
  await many(50, () => infer("early"));
  assert.deepEqual(namesSince(later), { "early~1": 50 });
});

test("90/10 over REST, in the very parts, and no JavaScript on the way", async () => {
  await put("parts", { split: [{ revision: "r1", percent: 10 }] });
  await whenRouted("parts", ["r0", "r1"]);
  const { javascriptRequests } = await fleet.stats();
  const at = server.asked.length;
  await many(2_000, () => infer("parts"));
  const names = namesSince(at);
  assert.equal((names["parts"] ?? 0) + (names["parts~1"] ?? 0), 2_000, JSON.stringify(names));
  assertShare(names["parts~1"], 2_000, 10);
  assert.equal((await fleet.stats()).javascriptRequests, javascriptRequests);
});

/** A call and the text of its answer, in which the name must stand. */
const calls: [what: string, ask: (name: string) => Promise<string>][] = [
  ["V2 infer", infer],
  ["V2 metadata", (name) => post(`/v2/models/${name}`, undefined, "GET")],
  ["V2 with a version", (name) => post(`/v2/models/${name}/versions/1/infer`, {})],
  ["V1 predict", (name) => post(`/v1/models/${name}:predict`, { instances: [] })],
  ["V1 model", (name) => post(`/v1/models/${name}`, undefined, "GET")],
  ["OpenAI-style", (name) => post("/v1/chat/completions", { messages: [], model: name })],
  ["OpenAI-style stream", (name) => post("/openai/v1/completions", { model: name, stream: true })],
  ["gRPC infer", async (name) => fromBinary(ModelInferResponseSchema, await unary("ModelInfer", inferMessage(name))).modelName],
  [
    "gRPC metadata",
    async (name) => fromBinary(ModelMetadataResponseSchema, await unary("ModelMetadata", inferMessage(name))).name,
  ],
  ["gRPC ready", async (name) => (await unary("ModelReady", inferMessage(name)), name)],
  ["gRPC stream", (name) => stream(name)],
  ["gRPC stream named in a header", (name) => stream(name, { "mm-model-id": name })],
  [
    "another gRPC service",
    async (name) => (await grpcCall("/a.Service/Do", frameOf(Buffer.from("any")), { "mm-vmodel-id": name }), name),
  ],
];

const inferMessage = (modelName: string, id = ""): Uint8Array =>
  toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName, id }));

async function grpcCall(path: string, body: Uint8Array, headers = {}): Promise<Buffer> {
  const answer = await grpc.call(path, body, headers);
  assert.equal(answer.status, 0, answer.message);
  assert.equal(answer.headers["x-warm-answer-name"], undefined);
  return answer.body;
}

async function unary(method: string, message: Uint8Array): Promise<Buffer> {
  const body = await grpcCall(inferencePath(method), frameOf(message));
  assert.equal(body.readUInt32BE(1), body.length - 5);
  return body.subarray(5);
}

/** Three messages; the name in every answer. */
async function stream(name: string, headers = {}): Promise<string> {
  const ids = ["a", "b", "c"];
  const frames = ids.map((id) => frameOf(inferMessage(name, id)));
  const body = await grpcCall(inferencePath("ModelStreamInfer"), Buffer.concat(frames), headers);
  const names = new Set<string>();
  let at = 0;
  for (const id of ids) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    const { inferResponse } = fromBinary(ModelStreamInferResponseSchema, body.subarray(at + 5, end));
    assert.equal(inferResponse?.id, id);
    names.add(inferResponse?.modelName ?? "");
    at = end;
  }
  assert.equal(at, body.length);
  return [...names].join();
}

for (const [what, ask] of calls) {
  test(`${what}: each share gets its name, the client sees the public one`, async () => {
    await put("halves", { split: [{ revision: "r1", percent: 50 }] });
    await whenRouted("halves", ["r0", "r1"]);
    const at = server.asked.length;
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask("halves")));
    for (const answer of answers) {
      assert.match(answer, /halves/);
      assert.doesNotMatch(answer, /halves~/);
    }
    const names = namesSince(at);
    assert.deepEqual(Object.keys(names).toSorted(), ["halves", "halves~1"], JSON.stringify(names));
  });

  test(`${what}, cold, of a revision in a slot: one name for the server, one for the client`, async () => {
    const name = `cold-${what.toLowerCase().replaceAll(" ", "-")}`;
    await put(name, {}, "r1");
    const at = server.asked.length;
    const answer = await ask(name);
    assert.match(answer, new RegExp(name));
    assert.ok(!answer.includes(`${name}~`), answer);
    assert.deepEqual(Object.keys(namesSince(at)), [`${name}~1`]);
  });
}

test("a mirror gets its part under its own name, and no client notices", async () => {
  await put("seen", { split: [{ revision: "r1", percent: 50 }], mirror: { revision: "r2", percent: 50 } });
  await whenRouted("seen", ["r0", "r1", "r2"]);
  const at = server.asked.length;
  const mirrored = mirror.asked.length;
  await many(1_000, () => infer("seen"));
  assertShare(namesSince(at)["seen~1"], 1_000, 50);
  await waitUntil(
    "the copies have come",
    () => namesSince(mirrored, mirror),
    (names) => Math.abs((names["seen~2"] ?? 0) - 500) <= 6 * Math.sqrt(250),
  );
  assert.deepEqual(Object.keys(namesSince(mirrored, mirror)), ["seen~2"]);
});

test("every protocol is mirrored, under the mirror's name and with the whole body", async () => {
  await put("copied", { split: [{ revision: "r1", percent: 50 }], mirror: { revision: "r2", percent: 100 } });
  await whenRouted("copied", ["r0", "r1", "r2"]);
  for (const [what, ask] of calls) {
    if (what.startsWith("gRPC stream")) continue;
    const at = mirror.asked.length;
    for (let turn = 0; turn < 6; turn++) assert.doesNotMatch(await ask("copied"), /copied~/);
    await waitUntil(
      `${what} is mirrored`,
      () => mirror.asked.length,
      (count) => count >= at + 6,
    );
    assert.deepEqual(Object.keys(namesSince(at, mirror)), ["copied~2"], what);
  }
});

test("a mirror that answers nothing holds nobody up, large bodies included", async () => {
  await put("copied", { mirror: { revision: "r2", percent: 100 } });
  await whenRouted("copied", ["r0", "r2"]);
  mirror.setSilent(true);
  try {
    const at = server.asked.length;
    // More than may be under way to the mirror.
    await many(300, () => infer("copied"));
    const text = "x".repeat(4 << 20);
    await many(4, () => post("/v2/models/copied/infer", { text }));
    assert.equal(server.asked.slice(at).filter(({ bodyBytes }) => bodyBytes > 4 << 20).length, 4);
  } finally {
    mirror.setSilent(false);
  }
});

test("when a share's last copy goes, the active revision takes its part; none fails", async () => {
  await put("falls", { split: [{ revision: "r1", percent: 50 }] });
  await whenRouted("falls", ["r0", "r1"]);
  const stop = new AbortController();
  const asking = (async () => {
    let asked = 0;
    while (!stop.signal.aborted) {
      await infer("falls");
      asked += 1;
    }
    return asked;
  })();
  for (let turn = 0; turn < 5; turn++) {
    const copy = { model: "falls", revision: "r1", slot: 1, sizeBytes: 1n };
    pod.tell([{ ...copy, state: CopyState.LEAVING }], true);
    await pod.whenWithdrawn();
    const at = server.asked.length;
    await many(40, () => infer("falls"));
    const names = namesSince(at);
    // It may have been loaded again by then: it is used.
    assert.ok((names["falls"] ?? 0) >= 1, JSON.stringify(names));
    pod.tell([{ ...copy, state: CopyState.GONE }]);
    await whenRouted("falls", ["r0", "r1"]);
  }
  stop.abort();
  assert.ok((await asking) > 0);
});

test("models with the same split share one route configuration", async () => {
  for (const name of ["alike-1", "alike-2", "alike-3"]) await put(name, { split: [{ revision: "r1", percent: 30 }] });
  for (const name of ["alike-1", "alike-2", "alike-3"]) await whenRouted(name, ["r0", "r1"]);
  const dump = await fleet.envoyConfig("dynamic_scoped_route_configs");
  const routesOf = (name: string): string | undefined =>
    new RegExp(`"name": "${name}",\\s*"route_configuration_name": "([^"]+)"`).exec(dump)?.[1];
  assert.match(routesOf("alike-1") ?? "", /^mix-/);
  assert.equal(routesOf("alike-1"), routesOf("alike-2"));
  assert.equal(routesOf("alike-1"), routesOf("alike-3"));
});
