// Bad input over REST and gRPC, through Envoy: each gets the protocol's own clear error, and nothing else is disturbed.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import type { TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { createRestClient, type RestAsk, type RestClient } from "../harness/http.ts";
import { openTriedFleet, type TriedFleet } from "../harness/undisturbed.ts";

const hot = "iris-t0001";
const limitBytes = 16 * 2 ** 20;
let tried: TriedFleet;
let fleet: TestFleet;
let rest: RestClient;
let grpc: GrpcClient;

before(async () => {
  tried = await openTriedFleet(hot);
  ({ fleet, rest, grpc } = tried);
});
after(() => tried?.[Symbol.asyncDispose]());

async function assertUndisturbed(): Promise<void> {
  await tried.assertUndisturbed();
}

const input = (more: object = {}): object => ({
  name: "x",
  shape: [1, 4],
  datatype: "FP32",
  data: [5.1, 3.5, 1.4, 0.2],
  ...more,
});
const good = { inputs: [input()] };
const infer = `/v2/models/${hot}/infer`;
const named = (name: string): string => `/v2/models/${name}/infer`;
const post = (body: unknown, ...headers: [string, string][]): RestAsk => ({ method: "POST", body, headers });

const restRefusals: readonly (readonly [string, string, RestAsk, number, RegExp])[] = [
  ["JSON that is malformed", infer, post('{"inputs":['), 400, /not JSON/],
  ["an empty body", infer, post(""), 400, /not JSON/],
  ["a body that is not UTF-8", infer, post(Uint8Array.of(0x7b, 0xff, 0x7d)), 400, /UTF-8/],
  ["nesting without end", infer, post(`{"inputs":${"[".repeat(200_000)}`), 400, /not JSON/],
  ["a wrong shape", infer, post({ inputs: [input({ shape: [1, 5], data: [1, 2, 3, 4, 5] })] }), 400, /takes \[-1, 4\]/],
  ["a wrong rank", infer, post({ inputs: [input({ shape: [4] })] }), 400, /takes \[-1, 4\]/],
  ["a negative dimension", infer, post({ inputs: [input({ shape: [-1, 4] })] }), 400, /whole numbers/],
  ["a shape beyond memory", infer, post({ inputs: [input({ shape: [2 ** 40, 4] })] }), 400, /shape|elements|more than/],
  ["a wrong datatype", infer, post({ inputs: [input({ datatype: "INT64", data: [1, 2, 3, 4] })] }), 400, /takes FP32/],
  ["text for numbers", infer, post({ inputs: [input({ data: ["a", "b", "c", "d"] })] }), 400, /FP32/],
  ["a wrong number of elements", infer, post({ inputs: [input({ data: [1] })] }), 400, /has 1 elements/],
  ["a missing input", infer, post({ inputs: [] }), 400, /"x" is missing/],
  ["an unknown input", infer, post({ inputs: [input(), input({ name: "y" })] }), 400, /no input "y"/],
  ["an unknown output", infer, post({ ...good, outputs: [{ name: "nope" }] }), 400, /no output "nope"/],
  ["a body over the limit", infer, post(" ".repeat(limitBytes + 1)), 413, /large/i],
  ["a body over the limit for a cold model", named("wine-t0002"), post(" ".repeat(limitBytes + 1)), 413, /large/i],
  ["JSON that is malformed, for a cold model", named("wine-t0003"), post("{"), 400, /not JSON/],
  ["an unknown coding", infer, post(good, ["content-encoding", "br"]), 415, /gzip or deflate/],
  ["another medium", infer, post(good, ["content-type", "image/png"]), 415, /image\/png/],
  ["an unknown model", named("nobody"), post(good), 404, /^Model nobody not found$/],
  ["an unknown version", `/v2/models/${hot}/versions/9/infer`, post(good), 404, /version 9/],
  ["GET on infer", infer, {}, 405, /POST/],
  ["an unknown path", "/v3/models", {}, 404, /no inference call/],
  ["an unknown call of a model", `/v2/models/${hot}/delete`, post(good), 404, /no inference call/],
  ["a V1 method of another kind", `/v1/models/${hot}:train`, post({}), 404, /no inference call/],
  ["V1 without instances", `/v1/models/${hot}:predict`, post({}), 400, /instances/],
  ["V1 of an unknown model", "/v1/models/nobody:predict", post({ instances: [[1]] }), 404, /^Model nobody not found$/],
  ["loading by the model server's API", `/v2/repository/models/${hot}/load`, post({}), 404, /no inference call/],
  ["unloading by the model server's API", `/v2/repository/models/${hot}/unload`, post({}), 404, /no inference call/],
  ["a way round to unloading", `/v2/models/${hot}/../../repository/models/${hot}/unload`, post({}), 404, /no inference call/],
  ["the management API", "/api/v1/models", {}, 404, /no inference call/],
  ["a name with an escaped slash", named("a%2Fb"), post(good), 400, /'\/'/],
  ["a name with an escaped backslash", named("a%5Cb"), post(good), 400, /'\\'/],
  ["a name with a slash", named("a/b"), post(good), 404, /no inference call/],
  ["a name of two dots", named(".."), post(good), 404, /no inference call/],
  ["a name of escaped dots", named("%2e%2e"), post(good), 404, /no inference call/],
  ["a name of dots escaped twice", named("%252e%252e"), post(good), 400, /'%'/],
  ["a hidden name", named(".hidden"), post(good), 400, /begin with a dot/],
  ["an empty name", "/v2/models//infer", post(good), 400, /must not be empty/],
  ["slashes doubled in front", `//v2/models/${hot}/infer`, post(good), 404, /no inference call/],
  ["slashes doubled behind", `/v2/models/${hot}//infer`, post(good), 404, /no inference call/],
  ["a name with a semicolon", named(`${hot};a=b`), post(good), 400, /';'/],
  ["a name with a slot", named(`${hot}~1`), post(good), 400, /'~'/],
  ["a name in unicode", named(encodeURIComponent("模型")), post(good), 400, /U\+6A21/],
  ["a name beyond the Basic Multilingual Plane", named(encodeURIComponent("😀")), post(good), 400, /U\+1F600/],
  ["a name that is no UTF-8", named("%ff%fe"), post(good), 400, /'%'/],
  ["a name with a line break", named("a%0d%0ab"), post(good), 400, /U\+000D/],
  ["a name with a zero byte", named("a%00b"), post(good), 400, /%00/],
  ["a version with escaped slashes", `/v2/models/${hot}/versions/1%2F..%2F1/infer`, post(good), 404, /no inference call/],
  ["a name of 300 characters", named("n".repeat(300)), post(good), 400, /at most 253/],
  ["a name called __proto__", named("__proto__"), post(good), 404, /__proto__ not found/],
  ["a time limit that is none", named("wine-t0001"), post(good, ["x-request-timeout-ms", "soon"]), 400, /x-request-timeout-ms/],
  ["a priority that is none", named("wine-t0004"), post(good, ["x-request-priority", "urgent"]), 400, /one of high, normal, low/],
];

for (const [what, path, ask, status, reason] of restRefusals) {
  test(`REST refuses ${what}`, async () => {
    // A body that is refused half-way ends its connection.
    await using own = createRestClient(fleet.restUrl);
    const answer = await own.ask(path, ask);
    const seen = `${answer.status} ${JSON.stringify(answer.headers)} ${answer.text.slice(0, 500)}`;
    assert.equal(answer.status, status, seen);
    assert.match(String(answer.headers["content-type"]), /^application\/json/, seen);
    assert.deepEqual(Object.keys(answer.json as object), ["error"], seen);
    assert.match((answer.json as { error: string }).error, reason, seen);
    await assertUndisturbed();
  });
}

test("the entry of a pod, which its own gateway uses, is no way in for a client", async () => {
  const { pods } = (await fleet.manage("GET", "/api/v1/pods")).json as { pods: unknown[] };
  assert.equal(pods.length, 2);
  const scopes = await fleet.envoyConfig("dynamic_scoped_route_configs");
  const entry = /"(~set-[^"]+)"/.exec(scopes)?.[1];
  assert.ok(entry !== undefined, `no entry in ${scopes.slice(0, 500)}`);
  for (const headers of [[], [["x-warm-load-ms", "1"]]] as [string, string][][]) {
    const answer = await rest.ask(`/v2/models/${entry}/${hot}/infer`, post(good, ...headers));
    assert.equal(answer.status, 404, answer.text);
    const overGrpc = await grpc.call(inferencePath("ModelInfer"), frameOf(message({})), { "mm-model-id": entry });
    assert.equal(overGrpc.status, 3, overGrpc.message);
  }
  await assertUndisturbed();
});

test("headers of ours that a client makes up change nothing", async () => {
  const spoofed: [string, string][] = [
    ["x-warm-model", "wine-t0001"],
    ["x-warm-bad-name", "wine-t0001"],
    ["x-warm-load-ms", "7"],
    ["x-warm-cluster", "warm-gateway"],
    ["x-warm-not-here", "1"],
    ["x-warm-filter", "reroute"],
  ];
  for (const model of [hot, "iris-t0002"]) {
    const overRest = await rest.ask(named(model), post(good, ...spoofed));
    assert.equal(overRest.status, 200, overRest.text);
    assert.equal((overRest.json as { model_name: string }).model_name, model);
  }
  for (const model of [hot, "iris-t0003"]) {
    const overGrpc = await grpc.call(
      inferencePath("ModelInfer"),
      frameOf(message({ modelName: model })),
      Object.fromEntries(spoofed),
    );
    assert.equal(overGrpc.status, 0, `${overGrpc.status} ${overGrpc.message}`);
    assert.ok(overGrpc.body.includes(model), `the answer is not of ${model}: ${overGrpc.body.toString("latin1")}`);
  }
  await assertUndisturbed();
});

test("a call on the port of the other protocol hears so, and loads nothing", async () => {
  const cold = fleet.oracle.models.at(-1) ?? "";
  assert.notEqual(cold, hot);
  await using wrong = createRestClient(`http://${fleet.grpcTarget}`);
  const overRest = await wrong.ask(named(cold), post(good));
  assert.deepEqual([overRest.status, overRest.text], [404, "this port is for gRPC; REST has a port of its own"]);
  assert.equal((await wrong.ask("/v2/health/live")).status, 200);
  await using other = await openGrpcClient(new URL(fleet.restUrl).host);
  const overGrpc = await other.call(call, of(cold), { "mm-model-id": cold });
  assert.deepEqual([overGrpc.status, overGrpc.message], [unsupported, "this port is for REST; gRPC has a port of its own"]);
  const { copies } = (await fleet.manage("GET", `/api/v1/models/${cold}`)).json as { copies: unknown[] };
  assert.deepEqual(copies, []);
  await assertUndisturbed();
});

test("what is no HTTP is answered with 400 and its connection ends", async () => {
  for (const text of [
    "NONSENSE\r\n\r\n",
    "GET /v2 HTTP/1.1\r\n\r\n",
    `GET /${"a".repeat(100_000)} HTTP/1.1\r\nhost: a\r\n\r\n`,
    "POST /v2/models/a/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
  ]) {
    const answer = await sendRaw(text);
    assert.match(answer, /^HTTP\/1\.1 4\d\d /, `${JSON.stringify(text.slice(0, 40))}: ${JSON.stringify(answer.slice(0, 300))}`);
  }
  await assertUndisturbed();
});

test("a call about the whole server, which HTTP knows and V2 does not, is told why it is refused", async () => {
  const answer = await sendRaw("OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
  assert.match(answer, /^HTTP\/1\.1 404 [^]*\{"error":"the path must begin with \/"\}\s*$/);
  await assertUndisturbed();
});

test("a client that sends all of a body that is too large hears so, and keeps its connection", async () => {
  const { hostname, port } = new URL(fleet.restUrl);
  for (let turn = 0; turn < 5; turn++) {
    const socket = connect(Number(port), hostname);
    const body = " ".repeat(2 * limitBytes);
    socket.write(`POST ${infer} HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n\r\n`);
    await new Promise<void>((resolve, reject) => socket.write(body, (error) => (error ? reject(error) : resolve())));
    let answers = "";
    socket.on("data", (chunk: Buffer) => (answers += chunk.toString()));
    while (!answers.endsWith("}")) await once(socket, "data");
    assert.match(answers, /^HTTP\/1.1 413 [^]*the body is larger than/);
    socket.write("GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n");
    while (!answers.endsWith('{"live":true}')) await once(socket, "data");
    socket.destroy();
  }
  await assertUndisturbed();
});

/** All that comes back until the connection ends. */
async function sendRaw(text: string): Promise<string> {
  const { hostname, port } = new URL(fleet.restUrl);
  const socket = connect(Number(port), hostname);
  const { promise, resolve } = Promise.withResolvers<void>();
  let got = "";
  socket.setTimeout(5_000, () => socket.destroy());
  socket.on("data", (chunk: Buffer) => (got += chunk.toString()));
  socket.on("error", () => undefined);
  socket.on("close", () => resolve());
  socket.write(text);
  await promise;
  return got;
}

function message(init: MessageInitShape<typeof ModelInferRequestSchema>): Uint8Array {
  return toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { inputs: [tensor()], ...init }));
}

function tensor(more: object = {}): { name: string; datatype: string; shape: bigint[]; contents: { fp32Contents: number[] } } {
  return { name: "x", datatype: "FP32", shape: [1n, 4n], contents: { fp32Contents: [5.1, 3.5, 1.4, 0.2] }, ...more };
}

const call = inferencePath("ModelInfer");
const whole = message({ modelName: hot });
const of = (name: string): Uint8Array => frameOf(message({ modelName: name }));
/** Field 5, an input, whose bytes are no tensor. */
const brokenInside = Buffer.concat([
  toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: hot })),
  Uint8Array.of(0x2a, 3, 0xff, 0xff, 0xff),
]);
const invalid = 3;
const unsupported = 12;

const grpcRefusals: readonly (readonly [string, string, Uint8Array, number, RegExp, Record<string, string | string[]>?])[] = [
  ["bytes that are no protobuf", call, frameOf(Buffer.from("definitely not protobuf")), invalid, /malformed/],
  ["a message whose input is no tensor", call, frameOf(brokenInside), invalid, /ModelInferRequest/],
  ["a message that ends within a field", call, frameOf(whole.subarray(0, whole.length - 3)), invalid, /malformed/],
  ["a frame that is cut", call, frameOf(whole, { length: whole.length + 10 }), invalid, /malformed/],
  ["a frame that says too little", call, frameOf(whole, { length: whole.length - 10 }), invalid, /malformed/],
  ["two messages", call, Buffer.concat([frameOf(whole), frameOf(whole)]), invalid, /malformed/],
  ["half a frame's head", call, Uint8Array.of(0, 0), invalid, /malformed/],
  ["no message", call, new Uint8Array(), invalid, /malformed/],
  ["an empty message", call, frameOf(new Uint8Array()), invalid, /names no model/],
  ["the compressed flag", call, frameOf(whole, { flag: 1 }), invalid, /malformed/],
  ["a message that names its model twice", call, frameOf(Buffer.concat([whole, Uint8Array.of(10, 1, 97)])), invalid, /malformed/],
  [
    "a wrong shape",
    call,
    frameOf(message({ modelName: hot, inputs: [tensor({ shape: [1n, 5n] })] })),
    invalid,
    /takes \[-1, 4\]/,
  ],
  ["a negative shape", call, frameOf(message({ modelName: hot, inputs: [tensor({ shape: [-1n, 4n] })] })), invalid, /./],
  [
    "a wrong datatype",
    call,
    frameOf(message({ modelName: hot, inputs: [tensor({ datatype: "INT64" })] })),
    invalid,
    /takes FP32/,
  ],
  ["a missing input", call, frameOf(message({ modelName: hot, inputs: [] })), invalid, /"x" is missing/],
  [
    "raw bytes that are too few",
    call,
    frameOf(
      message({
        modelName: hot,
        inputs: [{ name: "x", datatype: "FP32", shape: [1n, 4n] }],
        rawInputContents: [new Uint8Array(3)],
      }),
    ),
    invalid,
    /./,
  ],
  ["an unknown output", call, frameOf(message({ modelName: hot, outputs: [{ name: "nope" }] })), invalid, /no output "nope"/],
  [
    "a message over the limit",
    call,
    frameOf(message({ modelName: hot, rawInputContents: [new Uint8Array(limitBytes + 1)] })),
    8,
    /large/i,
  ],
  ["an unknown model", call, of("nobody"), 5, /nobody not found/],
  ["an unknown version", call, frameOf(message({ modelName: hot, modelVersion: "9" })), 5, /version 9/],
  [
    "readiness of an unknown model",
    inferencePath("ModelReady"),
    frameOf(Buffer.concat([Uint8Array.of(10, 6), Buffer.from("nobody")])),
    5,
    /nobody not found/,
  ],
  ["an unknown model in a header", call, frameOf(message({})), 5, /nobody not found/, { "mm-model-id": "nobody" }],
  ["loading", inferencePath("RepositoryModelLoad"), of(hot), unsupported, /no inference call/],
  ["unloading", inferencePath("RepositoryModelUnload"), of(hot), unsupported, /no inference call/],
  [
    "unloading with a header that names a model",
    inferencePath("RepositoryModelUnload"),
    of(hot),
    unsupported,
    /no inference call/,
    { "mm-model-id": hot },
  ],
  ["an unknown method", inferencePath("Nope"), of(hot), unsupported, /no inference call/],
  ["the health of a service that is none", "/grpc.health.v1.Health/Check", of(hot), 5, /no such service/],
  ["health that is watched", "/grpc.health.v1.Health/Watch", frameOf(new Uint8Array()), unsupported, /no inference call/],
  ["another service", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", of(hot), unsupported, /no inference call/],
  [
    "another service with a header that names a model",
    "/grpc.health.v1.Health/Watch",
    of(hot),
    unsupported,
    /no inference call/,
    { "mm-model-id": hot },
  ],
  [
    "the gateway's own services",
    "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
    of(hot),
    unsupported,
    /no inference call/,
  ],
  ["a name with a slash", call, of("a/b"), invalid, /'\/'/],
  ["a name of two dots", call, of(".."), invalid, /begin with a dot/],
  ["a name with an escaped slash", call, of("a%2Fb"), invalid, /'%'/],
  ["a name with a semicolon", call, of("a;b"), invalid, /';'/],
  ["a name with a slot", call, of(`${hot}~1`), invalid, /'~'/],
  ["a name that is the gateway's own scope", call, of("/server"), invalid, /'\/'/],
  ["a name in unicode", call, of("模型"), invalid, /U\+6A21/],
  ["a name with a line break", call, of("a\r\nb"), invalid, /U\+000D/],
  ["a name with a zero byte", call, of("a\0b"), invalid, /U\+0000/],
  ["a name of 300 characters", call, of("n".repeat(300)), invalid, /at most 253/],
  ["a name called __proto__", call, of("__proto__"), 5, /__proto__ not found/],
  ["a bad name in a header", call, frameOf(whole), invalid, /' '|space|'\/'/, { "mm-model-id": "a/b" }],
  ["two names in headers", call, frameOf(whole), invalid, /more than once/, { "mm-model-id": [hot, "iris-t0002"] }],
  ["a priority that is none", call, of("digits-t0004"), invalid, /one of high/, { "x-request-priority": "urgent" }],
  ["a time limit that is none, for a cold model", call, of("digits-t0003"), invalid, /grpc-timeout/, { "grpc-timeout": "soon" }],
  // What grpc-js servers say, for a hit is theirs alone.
  ["a time limit that is none, for a hot model", call, of(hot), 13, /grpc-timeout/, { "grpc-timeout": "soon" }],
];

for (const [what, path, body, status, reason, headers] of grpcRefusals) {
  test(`gRPC refuses ${what}`, async () => {
    await using own = await openGrpcClient(fleet.grpcTarget);
    const answer = await own.call(path, body, headers);
    const seen = `${answer.status} ${JSON.stringify(answer.message)} ${JSON.stringify(answer.headers)}`;
    assert.equal(answer.status, status, seen);
    assert.match(answer.message, reason, seen);
    assert.equal(answer.httpStatus, 200, seen);
    await assertUndisturbed();
  });
}

test("a gRPC message of several MiB is no bad input", async () => {
  const rows = 200_000;
  const raw = new Uint8Array(new Float32Array(rows * 4).fill(1).buffer);
  const sent = { modelName: hot, inputs: [{ name: "x", datatype: "FP32", shape: [BigInt(rows), 4n] }], rawInputContents: [raw] };
  const answer = await grpc.call(call, frameOf(message(sent)));
  assert.equal(answer.status, 0, `${answer.status} ${answer.message}`);
  assert.ok(answer.body.length > rows * 8, `${answer.body.length} bytes answered`);
  await assertUndisturbed();
});

test("the hot model was never unloaded by what was refused", async () => {
  const { copies } = (await fleet.manage("GET", `/api/v1/models/${hot}`)).json as { copies: { state: string }[] };
  assert.deepEqual(
    copies.map(({ state }) => state),
    ["ready"],
  );
});

test("no ext_proc stream failed, and no process had to be started again", async () => {
  assert.equal((await fleet.stats()).extProcErrors, 0);
  await assertUndisturbed();
});
