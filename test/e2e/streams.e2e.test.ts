// ModelStreamInfer: the model is named in its first message, and nowhere else. Messages may come in any pieces, and in any
// shape that is wrong.
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
import { after, before, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { openRegistry } from "#platform/registry/open.ts";
import { ModelInferRequestSchema, ModelStreamInferResponseSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { type NamingServer, openNamingServer } from "../harness/namingserver.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
const path = inferencePath("ModelStreamInfer");
let fleet: TestFleet;
let server: NamingServer;
let grpc: GrpcClient;
let session: ClientHttp2Session;

before(async () => {
  fleet = stack.use(await openFleet({ pods: 1 }));
  server = stack.use(await openNamingServer());
  const registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const { restAddress, grpcAddress } = server;
  stack.use(await openFakePod({ registry, podId: "any-0", runtime: "any", restAddress, grpcAddress }));
  await waitUntil(
    "the pod is linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 2,
  );
  for (const name of ["one", "two", "x".repeat(253)]) await fleet.register(name, "file:///any", "any");
  grpc = stack.use(await openGrpcClient(fleet.grpcTarget));
  session = connect(`http://${fleet.grpcTarget}`);
  stack.defer(() => session.destroy());
  await once(session, "connect");
});

after(() => stack.disposeAsync());

const message = (modelName: string, id = "", more = {}): Uint8Array =>
  toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName, id, ...more }));

/** What the model server was asked for, in order. */
async function namesOf(body: Uint8Array, headers: Record<string, string> = {}): Promise<string[]> {
  const at = server.asked.length;
  const answer = await grpc.call(path, body, headers);
  assert.equal(answer.status, 0, answer.message);
  return server.asked.slice(at).map(({ name }) => name);
}

test("every message reaches the model that the first one names", async () => {
  assert.deepEqual(await namesOf(Buffer.concat([frameOf(message("one", "1")), frameOf(message("one", "2"))])), ["one", "one"]);
  const long = "x".repeat(253);
  assert.deepEqual(await namesOf(frameOf(message(long))), [long]);
});

test("a header wins over what the messages say", async () => {
  const body = Buffer.concat([frameOf(message("one")), frameOf(message("two"))]);
  assert.deepEqual(await namesOf(body, { "mm-model-id": "two" }), ["two", "two"]);
});

test("a warm stream runs no JavaScript", async () => {
  await namesOf(frameOf(message("one")));
  await waitUntil(
    "it is routed",
    () => fleet.manage("GET", "/api/v1/models/one"),
    ({ text }) => text.includes('"acknowledged":true'),
  );
  const { javascriptRequests } = await fleet.stats();
  for (let turn = 0; turn < 20; turn++) await namesOf(frameOf(message("one")));
  assert.equal((await fleet.stats()).javascriptRequests, javascriptRequests);
});

test("an answer comes before the stream ends; messages may come byte by byte, or large", async () => {
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
  const got: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => got.push(chunk));
  const answers = (): string[] => {
    const body = Buffer.concat(got);
    const ids: string[] = [];
    for (let at = 0; at + 5 <= body.length && at + 5 + body.readUInt32BE(at + 1) <= body.length; ) {
      const end = at + 5 + body.readUInt32BE(at + 1);
      ids.push(fromBinary(ModelStreamInferResponseSchema, body.subarray(at + 5, end)).inferResponse?.id ?? "");
      at = end;
    }
    return ids;
  };
  const whenAnswered = (ids: string[]): Promise<string[]> =>
    waitUntil("the answers", answers, (seen) => seen.join() === ids.join());
  try {
    for (const byte of frameOf(message("one", "first"))) stream.write(Buffer.of(byte));
    await whenAnswered(["first"]);
    for (const byte of frameOf(message("one", "second"))) stream.write(Buffer.of(byte));
    await whenAnswered(["first", "second"]);
    const at = server.asked.length;
    stream.write(frameOf(message("one", "third", { rawInputContents: [new Uint8Array(3 << 20)] })));
    await whenAnswered(["first", "second", "third"]);
    assert.ok((server.asked[at]?.bodyBytes ?? 0) > 3 << 20);
    stream.end();
    await once(stream, "close");
  } finally {
    stream.destroy();
  }
});

const refusals: [what: string, body: Uint8Array, says: RegExp][] = [
  ["without a message", Buffer.alloc(0), /enough data|names no model/],
  ["whose message is cut off", frameOf(message("one"), { length: 500 }), /./],
  ["whose first message names no model", frameOf(message("")), /names no model/],
  ["whose first message is no message", frameOf(Buffer.from("hello")), /./],
  ["whose first message is compressed", frameOf(message("one"), { flag: 1 }), /./],
  ["of a name that is none", frameOf(message("a/b")), /must not contain/],
  ["of a slot's name", frameOf(message("one~1")), /must not contain '~'/],
];

for (const [what, body, says] of refusals) {
  test(`a stream ${what} is refused`, async () => {
    const at = server.asked.length;
    const answer = await grpc.call(path, body);
    assert.ok([3, 13].includes(answer.status ?? -1), `${answer.status} ${answer.message}`);
    assert.match(answer.message, says);
    assert.equal(server.asked.length, at, "it reached no model server");
  });
}

test("a stream of an unknown model is NOT_FOUND", async () => {
  const answer = await grpc.call(path, frameOf(message("nope")));
  assert.equal(answer.status, 5, answer.message);
  assert.match(answer.message, /nope/);
});
