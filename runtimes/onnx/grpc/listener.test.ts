// The gRPC port by its bytes: an answer leaves as one, however Node writes it.
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { createClient } from "#platform/grpc.ts";
import { GRPCInferenceService, ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { addConstantGraph } from "../testing/graphs.ts";
import { openTestServer, type TestServer } from "../testing/server.ts";

let server: TestServer;
before(async () => {
  server = await openTestServer();
  await server.load("plus", addConstantGraph(1));
});
after(async () => server[Symbol.asyncDispose]());

/** Between a client and the server; keeps what the server writes as it comes, and can keep from reading it. */
async function openTap(): Promise<AsyncDisposable & { readonly port: number; readonly chunks: Buffer[]; far(): Socket }> {
  const chunks: Buffer[] = [];
  let far: Socket | undefined;
  const tap = createServer({ noDelay: true }, (near) => {
    far = connect(server.grpcPort, "127.0.0.1");
    far.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      near.write(chunk);
    });
    near.on("data", (chunk) => far!.write(chunk));
    far.on("close", () => near.destroy());
    near.on("close", () => far!.destroy());
  });
  await new Promise<void>((resolve) => tap.listen(0, "127.0.0.1", resolve));
  return {
    port: (tap.address() as { port: number }).port,
    chunks,
    far: () => far!,
    [Symbol.asyncDispose]: () => new Promise((resolve) => tap.close(() => resolve())),
  };
}

/** Streams with a message in this piece, and those that it ends. RFC 9113, section 4.1: frames. */
function framesOf(chunk: Buffer): { readonly data: Set<number>; readonly ended: Set<number> } {
  const data = new Set<number>();
  const ended = new Set<number>();
  for (let at = 0; at < chunk.length; at += 9 + chunk.readUIntBE(at, 3)) {
    const [type, flags, stream] = [chunk[at + 3], chunk[at + 4]!, chunk.readUInt32BE(at + 5)];
    if (type === 0) data.add(stream);
    if (type === 1 && (flags & 1) === 1) ended.add(stream);
  }
  return { data, ended };
}

const request = create(ModelInferRequestSchema, {
  modelName: "plus",
  inputs: [{ name: "x", datatype: "FP32", shape: [1n, 2n], contents: { fp32Contents: [1, 2] } }],
});

test("the message of an answer and its end are one write, one call at a time and many at once", async () => {
  await using tap = await openTap();
  using client = createClient(GRPCInferenceService, `127.0.0.1:${tap.port}`);
  for (let i = 0; i < 100; i++) await client.modelInfer(request, { timeoutMs: 60_000 });
  for (let i = 0; i < 20; i++)
    await Promise.all(Array.from({ length: 10 }, () => client.modelInfer(request, { timeoutMs: 60_000 })));
  const frames = tap.chunks.map(framesOf);
  const answers = frames.flatMap(({ data, ended }) => [...data].map((stream) => ended.has(stream)));
  assert.equal(answers.length, 300);
  assert.deepEqual(
    answers.filter((whole) => !whole),
    [],
  );
});

test("a client that reads slowly gets all of many answers", async () => {
  await using tap = await openTap();
  using client = createClient(GRPCInferenceService, `127.0.0.1:${tap.port}`);
  const values = Array.from({ length: 200_000 }, (_, at) => at);
  const large = create(ModelInferRequestSchema, {
    modelName: "plus",
    inputs: [{ name: "x", datatype: "FP32", shape: [100_000n, 2n], contents: { fp32Contents: values } }],
  });
  await client.modelInfer(request, { timeoutMs: 60_000 });
  tap.far().pause();
  const asked = Promise.all(Array.from({ length: 30 }, () => client.modelInfer(large, { timeoutMs: 60_000 })));
  // The server answers others meanwhile.
  for (let i = 0; i < 20; i++) await server.grpc.modelInfer(large, { timeoutMs: 60_000 });
  tap.far().resume();
  for (const { outputs } of await asked)
    assert.deepEqual(
      outputs[0]?.contents?.fp32Contents,
      values.map((value) => value + 1),
    );
});
