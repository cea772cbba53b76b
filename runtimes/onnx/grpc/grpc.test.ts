// The gRPC contract, asked over a real connection of real models.
import assert from "node:assert/strict";
import { connect } from "node:http2";
import { after, before, test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import {
  type InferTensorContentsSchema,
  ModelInferRequestSchema,
  type ModelInferResponse,
  type ModelInferRequestSchema as RequestSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { addConstantGraph, addSubGraph, type GraphDatatype, identityGraph, onnxTypes } from "../testing/graphs.ts";
import { openTestServer, type TestServer } from "../testing/server.ts";

const limit = 64 * 1024;
let server: TestServer;
before(async () => {
  server = await openTestServer(limit);
  await server.load("addsub", addSubGraph());
  await server.load("plus~2", addConstantGraph(1), { version: "7" });
  for (const name of Object.keys(onnxTypes) as GraphDatatype[]) await server.load(`id-${name}`, identityGraph(name));
});
after(async () => server[Symbol.asyncDispose]());

const options = { timeoutMs: 60_000 };
type Request = MessageInitShape<typeof RequestSchema>;
const infer = async (request: Request): Promise<ModelInferResponse> =>
  server.grpc.modelInfer(create(ModelInferRequestSchema, request), options);

test("server and model: live, ready, metadata", async () => {
  assert.equal((await server.grpc.serverLive({ $typeName: "inference.ServerLiveRequest" }, options)).live, true);
  assert.equal((await server.grpc.serverReady({ $typeName: "inference.ServerReadyRequest" }, options)).ready, true);
  const about = await server.grpc.serverMetadata({ $typeName: "inference.ServerMetadataRequest" }, options);
  assert.deepEqual([about.name, about.extensions], ["warmpath-onnx", ["binary_tensor_data"]]);
  const ready = { $typeName: "inference.ModelReadyRequest", name: "plus~2", version: "" } as const;
  assert.equal((await server.grpc.modelReady(ready, options)).ready, true);
  const model = await server.grpc.modelMetadata({ ...ready, $typeName: "inference.ModelMetadataRequest", version: "7" }, options);
  assert.deepEqual([model.name, model.versions, model.platform], ["plus", ["7"], "onnxruntime_onnx"]);
  assert.deepEqual([model.inputs[0]?.name, model.inputs[0]?.datatype, model.inputs[0]?.shape], ["x", "FP32", [-1n, 2n]]);
});

test("infer: public name, version and id; outputs selected", async () => {
  const answer = await infer({
    modelName: "plus~2",
    id: "i",
    inputs: [{ name: "x", datatype: "FP32", shape: [1n, 2n], contents: { fp32Contents: [1, 2] } }],
    outputs: [{ name: "y" }],
  });
  assert.deepEqual([answer.modelName, answer.modelVersion, answer.id], ["plus", "7", "i"]);
  assert.deepEqual(answer.outputs[0]?.contents?.fp32Contents, [2, 3]);
  assert.deepEqual(answer.rawOutputContents, []);
});

const typed: Readonly<Partial<Record<GraphDatatype, MessageInitShape<typeof InferTensorContentsSchema>>>> = {
  BOOL: { boolContents: [true, false] },
  UINT8: { uintContents: [0, 255] },
  INT8: { intContents: [-128, 127] },
  UINT16: { uintContents: [0, 65_535] },
  INT16: { intContents: [-32_768, 32_767] },
  UINT32: { uintContents: [0, 4_294_967_295] },
  INT32: { intContents: [-2_147_483_648, 2_147_483_647] },
  UINT64: { uint64Contents: [0n, 18_446_744_073_709_551_615n] },
  INT64: { int64Contents: [-9_223_372_036_854_775_808n, 9_007_199_254_740_993n] },
  FP32: { fp32Contents: [0.5, Number.NaN] },
  FP64: { fp64Contents: [0.1, Number.NEGATIVE_INFINITY] },
  BYTES: { bytesContents: [Buffer.from("é"), Buffer.from("")] },
};

for (const [datatype, contents] of Object.entries(typed)) {
  test(`infer: ${datatype} comes back as it went, typed`, async () => {
    const answer = await infer({ modelName: `id-${datatype}`, inputs: [{ name: "x", datatype, shape: [2n], contents }] });
    const [output] = answer.outputs;
    assert.deepEqual([output?.name, output?.datatype, output?.shape], ["y", datatype, [2n]]);
    for (const [field, values] of Object.entries(contents)) {
      const back = (output!.contents as unknown as Record<string, unknown[]>)[field]!;
      assert.deepEqual(back.map(String), (values as unknown[]).map(String));
    }
  });
}

const raws: Readonly<Partial<Record<GraphDatatype, Uint8Array>>> = {
  FP16: new Uint8Array(Uint16Array.of(0x3c00, 0x7e00).buffer),
  FP32: new Uint8Array(Float32Array.of(1, 2).buffer),
  INT64: new Uint8Array(BigInt64Array.of(-1n, 2n ** 60n).buffer),
  BOOL: Uint8Array.of(1, 0),
  BYTES: Uint8Array.of(1, 0, 0, 0, 65, 0, 0, 0, 0),
};

for (const [datatype, raw] of Object.entries(raws)) {
  test(`infer: ${datatype} comes back as it went, raw`, async () => {
    const answer = await infer({
      modelName: `id-${datatype}`,
      inputs: [{ name: "x", datatype, shape: [2n] }],
      rawInputContents: [raw],
    });
    assert.equal(answer.outputs[0]?.contents, undefined);
    assert.deepEqual(
      answer.rawOutputContents.map((bytes) => [...bytes]),
      [[...raw]],
    );
  });
}

const a = { name: "a", datatype: "INT32", shape: [1n, 16n], contents: { intContents: Array.from({ length: 16 }, () => 1) } };
const b = { ...a, name: "b" };
const modelName = "addsub";
const refusals: readonly [string, Request, status, RegExp][] = [
  ["an unknown model", { modelName: "nope", inputs: [a] }, status.UNAVAILABLE, /^Model nope is not loaded on this pod$/],
  ["no name", {}, status.UNAVAILABLE, /not loaded/],
  ["an unknown version", { modelName, modelVersion: "2", inputs: [a, b] }, status.NOT_FOUND, /version 2/],
  ["a missing input", { modelName, inputs: [a] }, status.INVALID_ARGUMENT, /"b" is missing/],
  ["an unknown output", { modelName, inputs: [a, b], outputs: [{ name: "o" }] }, status.INVALID_ARGUMENT, /no output/],
  ["a wrong datatype", { modelName, inputs: [a, { ...b, datatype: "FP32" }] }, status.INVALID_ARGUMENT, /takes INT32/],
  ["a wrong shape", { modelName, inputs: [a, { ...b, shape: [16n] }] }, status.INVALID_ARGUMENT, /takes \[1, 16\]/],
  [
    "a dimension without end",
    { modelName, inputs: [a, { ...b, shape: [1n, 2n ** 62n] }] },
    status.INVALID_ARGUMENT,
    /whole numbers/,
  ],
  [
    "too few elements",
    { modelName, inputs: [a, { ...b, contents: { intContents: [1] } }] },
    status.INVALID_ARGUMENT,
    /1 elements/,
  ],
  [
    "no contents",
    { modelName, inputs: [a, { name: "b", datatype: "INT32", shape: [1n, 16n] }] },
    status.INVALID_ARGUMENT,
    /0 elements/,
  ],
  [
    "contents of another kind",
    { modelName, inputs: [a, { ...b, contents: { fp32Contents: [1] } }] },
    status.INVALID_ARGUMENT,
    /not those of INT32/,
  ],
  [
    "raw contents for one of two",
    { modelName, inputs: [a, b], rawInputContents: [new Uint8Array(64)] },
    status.INVALID_ARGUMENT,
    /1 entries for 2/,
  ],
  [
    "raw and typed contents",
    { modelName, inputs: [a, b], rawInputContents: [new Uint8Array(64), new Uint8Array(64)] },
    status.INVALID_ARGUMENT,
    /both/,
  ],
  [
    "raw contents of a wrong length",
    { modelName: "id-FP32", inputs: [{ name: "x", datatype: "FP32", shape: [2n] }], rawInputContents: [new Uint8Array(7)] },
    status.INVALID_ARGUMENT,
    /7 bytes/,
  ],
  [
    "a byte beyond its range",
    { modelName: "id-INT8", inputs: [{ name: "x", datatype: "INT8", shape: [1n], contents: { intContents: [128] } }] },
    status.INVALID_ARGUMENT,
    /range of INT8/,
  ],
  [
    "typed FP16",
    { modelName: "id-FP16", inputs: [{ name: "x", datatype: "FP16", shape: [1n], contents: { fp32Contents: [1] } }] },
    status.INVALID_ARGUMENT,
    /raw_input_contents only/,
  ],
  [
    "a message over the limit",
    { modelName, inputs: [a, b], rawInputContents: [new Uint8Array(limit), new Uint8Array(1)] },
    status.RESOURCE_EXHAUSTED,
    /larger/,
  ],
];

for (const [name, request, code, message] of refusals) {
  test(`refuses ${name}`, async () => {
    const error = await infer(request).then(
      () => assert.fail("it answered"),
      (reason: ServiceError) => reason,
    );
    assert.match(error.details, message);
    assert.equal(error.code, code);
    const notHere = code === status.UNAVAILABLE;
    assert.deepEqual(error.metadata.get("x-warm-not-here"), notHere ? ["1"] : []);
    await infer({ modelName, inputs: [a, b] });
  });
}

test("refuses what is no message with INVALID_ARGUMENT", async () => {
  const client = new Client(`127.0.0.1:${server.grpcPort}`, credentials.createInsecure());
  for (const method of ["ModelInfer", "ModelReady", "ModelMetadata", "ServerLive"]) {
    const error = await new Promise<ServiceError | null>((resolve) => {
      const same = (bytes: Buffer): Buffer => bytes;
      client.makeUnaryRequest(`/inference.GRPCInferenceService/${method}`, same, same, Buffer.from([0x0a, 0xff, 0x01]), resolve);
    });
    assert.equal(error?.code, status.INVALID_ARGUMENT, method);
  }
  client.close();
});

test("a model that is not here is told in the headers, with the end of the stream", async () => {
  const message = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: "nope" }));
  const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
  const session = connect(`http://127.0.0.1:${server.grpcPort}`);
  const stream = session.request({
    ":method": "POST",
    ":path": "/inference.GRPCInferenceService/ModelInfer",
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.end(frame);
  const headers = await new Promise<Readonly<Record<string, unknown>>>((resolve) => stream.once("response", resolve));
  assert.equal(Number(headers["grpc-status"]), status.UNAVAILABLE);
  assert.equal(headers["x-warm-not-here"], "1");
  assert.equal(headers["retry-after"], "1");
  stream.close();
  await new Promise<void>((resolve) => session.close(resolve));
});

test("a connection lives through thousands of cancelled calls", async () => {
  const session = connect(`http://127.0.0.1:${server.grpcPort}`);
  const cancel = async (): Promise<void> => {
    const stream = session.request({
      ":method": "POST",
      ":path": "/inference.GRPCInferenceService/ModelInfer",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => undefined);
    await new Promise<void>((resolve) => stream.write(Buffer.of(0, 0, 0, 0, 9), () => resolve()));
    await new Promise<void>((resolve) => {
      stream.once("close", resolve);
      stream.close(8);
    });
  };
  for (let i = 0; i < 150; i++) await Promise.all(Array.from({ length: 20 }, cancel));
  await new Promise<void>((resolve, reject) => session.ping((error) => (error === null ? resolve() : reject(error))));
  assert.equal(session.destroyed, false);
  await new Promise<void>((resolve) => session.close(resolve));
});

test("a stream answers request after request, an error among them", async () => {
  const stream = server.grpc.modelStreamInfer({ timeoutMs: 60_000 });
  const inputs = [{ name: "x", datatype: "FP32", shape: [1n, 2n], contents: { fp32Contents: [1, 2] } }];
  for (const request of [{ id: "a", inputs }, { id: "b" }, { id: "c", inputs }]) {
    stream.write(create(ModelInferRequestSchema, { modelName: "plus~2", ...request }));
  }
  stream.end();
  const seen: string[] = [];
  for await (const { errorMessage, inferResponse } of stream) seen.push(inferResponse?.id ?? errorMessage);
  assert.deepEqual([seen[0], seen[2], seen.length], ["a", "c", 3]);
  assert.match(seen[1]!, /missing/);
});

test("a stream for a model that is not here ends as another pod's call", async () => {
  const stream = server.grpc.modelStreamInfer({ timeoutMs: 60_000 });
  const ended = Promise.withResolvers<ServiceError>();
  stream.on("error", ended.resolve);
  stream.on("data", () => ended.reject(new Error("it was answered")));
  stream.write(create(ModelInferRequestSchema, { modelName: "nope" }));
  const error = await ended.promise;
  assert.equal(error.code, status.UNAVAILABLE);
  assert.deepEqual(error.metadata.get("x-warm-not-here"), ["1"]);
});

test("a message that names another model than the stream's first ends the stream", async () => {
  const stream = server.grpc.modelStreamInfer({ timeoutMs: 60_000 });
  const inputs = [{ name: "x", datatype: "FP32", shape: [1n, 2n], contents: { fp32Contents: [1, 2] } }];
  const ended = Promise.withResolvers<ServiceError>();
  const seen: (string | undefined)[] = [];
  stream.on("error", ended.resolve);
  stream.on("end", () => ended.reject(new Error("it ended well")));
  stream.on("data", ({ inferResponse }) => seen.push(inferResponse?.id));
  stream.write(create(ModelInferRequestSchema, { modelName: "plus~2", id: "a", inputs }));
  stream.write(create(ModelInferRequestSchema, { modelName: "addsub", id: "b" }));
  stream.write(create(ModelInferRequestSchema, { modelName: "plus~2", id: "c", inputs }));
  assert.equal((await ended.promise).code, status.INVALID_ARGUMENT);
  assert.deepEqual(seen, ["a"]);
});
