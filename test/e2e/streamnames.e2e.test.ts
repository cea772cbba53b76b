// A stream stays with its model, also on a model server that takes the name from each message: what a later message names is
// neither served nor reached, and the revision's slot is in every message.
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { after, before, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { parseModel } from "#core/model.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { putModel } from "#platform/registry/records.ts";
import { ModelInferRequestSchema, ModelStreamInferResponseSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, inferencePath } from "../harness/grpc.ts";
import { openStreamServer, type StreamServer } from "../harness/streamserver.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
const slot = 2;
let fleet: TestFleet;
let server: StreamServer;
let session: ClientHttp2Session;

before(async () => {
  fleet = stack.use(await openFleet({ pods: 1 }));
  server = stack.use(await openStreamServer(["plain", "other", `slotted~${slot}`, `second~${slot}`, "third"]));
  const registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const at = { restAddress: server.address, grpcAddress: server.address, streamsByHeader: false };
  stack.use(await openFakePod({ registry, podId: "any-0", runtime: "any", ...at }));
  await waitUntil(
    "the pod is linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 2,
  );
  for (const name of ["plain", "other", "third"]) await fleet.register(name, "file:///any", "any");
  for (const name of ["slotted", "second"]) {
    const parsed = parseModel({
      name,
      revisions: [{ id: "r2", slot, format: "any", storageUri: "file:///any" }],
      active: "r2",
    });
    assert.equal(parsed.kind, "ok");
    if (parsed.kind === "ok") await putModel(registry, parsed.model);
  }
  await waitUntil(
    "the last one is known",
    () => fleet.manage("GET", "/api/v1/models/second"),
    ({ status }) => status === 200,
  );
  session = connect(`http://${fleet.grpcTarget}`);
  stack.defer(() => session.destroy());
  await once(session, "connect");
});

after(() => stack.disposeAsync());

interface Answer {
  readonly model: string;
  readonly error: string;
}

interface Stream {
  readonly raw: ClientHttp2Stream;
  /** What was answered by then. */
  answers(count: number): Promise<readonly Answer[]>;
  /** The names that reached the model server since the stream was opened. */
  asked(): readonly string[];
}

function open(headers: Record<string, string> = {}): Stream {
  const raw = session.request({
    ":method": "POST",
    ":path": inferencePath("ModelStreamInfer"),
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  const got: Buffer[] = [];
  raw.on("data", (chunk: Buffer) => got.push(chunk));
  raw.on("error", () => undefined);
  const from = server.asked.length;
  const read = (): Answer[] => {
    const body = Buffer.concat(got);
    const found: Answer[] = [];
    for (let at = 0; at + 5 <= body.length && at + 5 + body.readUInt32BE(at + 1) <= body.length; ) {
      const end = at + 5 + body.readUInt32BE(at + 1);
      const { errorMessage, inferResponse } = fromBinary(ModelStreamInferResponseSchema, body.subarray(at + 5, end));
      // A slot's answer has a response added to it, which says the name.
      found.push({ model: errorMessage === "" ? (inferResponse?.modelName ?? "") : "", error: errorMessage });
      at = end;
    }
    return found;
  };
  return {
    raw,
    answers: (count) => waitUntil(`${count} answers`, read, (found) => found.length === count),
    asked: () => server.asked.slice(from),
  };
}

const message = (modelName: string, more = {}): Uint8Array =>
  toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName, ...more }));
const named = (model: string): Answer => ({ model, error: "" });
const strayed = /a stream stays with the model of its first message/;

async function warm(model: string): Promise<void> {
  const stream = open();
  stream.raw.end(frameOf(message(model)));
  await stream.answers(1);
  await waitUntil(
    `${model} is routed`,
    () => fleet.manage("GET", `/api/v1/models/${model}`),
    ({ text }) => text.includes('"acknowledged":true'),
  );
}

for (const [how, prepare] of [
  ["cold", async () => undefined],
  ["warm", warm],
] as const) {
  for (const [model, onServer] of [
    ["plain", "plain"],
    ["slotted", `slotted~${slot}`],
  ] as const) {
    test(`${how}, ${onServer}: each message reaches it, whole or in pieces, named or not; a stray one is refused`, async () => {
      await prepare(model);
      const stream = open();
      stream.raw.write(frameOf(message(model)));
      await stream.answers(1);
      for (const byte of frameOf(message(model, { id: "2" }))) stream.raw.write(Buffer.of(byte));
      await stream.answers(2);
      stream.raw.write(frameOf(message(model, { rawInputContents: [new Uint8Array(2 << 20)] })));
      stream.raw.write(Buffer.concat([frameOf(message("")), frameOf(new Uint8Array(0))]));
      assert.deepEqual(
        await stream.answers(5),
        Array.from({ length: 5 }, () => named(model)),
      );
      stream.raw.write(frameOf(message("other")));
      const { error } = (await stream.answers(6))[5] ?? {};
      assert.match(error ?? "", strayed);
      // The stream goes on.
      stream.raw.end(frameOf(message(model)));
      assert.deepEqual((await stream.answers(7))[6], named(model));
      assert.deepEqual(stream.asked().filter((name) => name !== onServer).length, 1);
      assert.ok(!stream.asked().includes("other"));
    });
  }
}

test("names that are tricks reach no other model", async () => {
  await warm("plain");
  const twice = Buffer.concat([message("plain"), message("other")]);
  const tricks: readonly (readonly [what: string, frame: Buffer])[] = [
    ["the name twice, the other one last", frameOf(twice)],
    [
      "the name far behind",
      frameOf(Buffer.concat([message("", { rawInputContents: [new Uint8Array(300_000)] }), message("other")])),
    ],
    ["a slot's name", frameOf(message("slotted~2"))],
    ["said to be compressed", frameOf(message("other"), { flag: 1 })],
    ["many small fields before it", frameOf(Buffer.concat([Buffer.from("2000".repeat(5_000), "hex"), message("other")]))],
  ];
  for (const [what, frame] of tricks) {
    const stream = open();
    stream.raw.write(frameOf(message("plain")));
    await stream.answers(1);
    stream.raw.end(frame);
    await once(stream.raw, "close");
    const reached = stream.asked().filter((name) => name === "other" || name === "slotted~2");
    assert.deepEqual(reached, [], what);
  }
});

test("a header wins over all messages, cold and warm", async () => {
  for (const turn of ["cold", "warm"]) {
    const stream = open({ "mm-model-id": "third" });
    stream.raw.end(Buffer.concat([frameOf(message("other")), frameOf(message("")), frameOf(message("third"))]));
    assert.deepEqual(await stream.answers(3), [named("third"), named("third"), named("third")], turn);
    assert.deepEqual(stream.asked(), ["third", "third", "third"], turn);
  }
});

test("a warm stream runs no JavaScript", async () => {
  await warm("second");
  const { javascriptRequests } = await fleet.stats();
  for (let turn = 0; turn < 10; turn++) {
    const stream = open();
    stream.raw.end(frameOf(message("second")));
    assert.deepEqual(await stream.answers(1), [named("second")]);
  }
  assert.equal((await fleet.stats()).javascriptRequests, javascriptRequests);
});
