// The built-in model server under V2 requests that are nearly right, over JSON and Protobuf: each is answered or refused in the
// protocol's form, none is a fault of the server's, and afterwards it infers as before.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { addSubGraph } from "#runtimes/onnx/testing/graphs.ts";
import { openTestServer, type TestServer } from "#runtimes/onnx/testing/server.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { mutated } from "./mutate.ts";

const runs = 1_500;
const ones = Array.from({ length: 16 }, () => 1);
const input = (name: string) => ({ name, shape: [1, 16], datatype: "INT32", data: ones });
const v2 = {
  id: "i",
  parameters: { a: 1 },
  inputs: [input("a"), input("b")],
  outputs: [{ name: "sum", parameters: { binary_data: false } }],
};
const v1 = { instances: [{ a: ones, b: ones }] };

describe("the built-in model server", () => {
  let server: TestServer;
  let grpc: GrpcClient;
  before(async () => {
    server = await openTestServer();
    await server.load("addsub", addSubGraph());
    grpc = await openGrpcClient(`127.0.0.1:${server.grpcPort}`);
  });
  after(async () => {
    await grpc?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  async function askRest(path: string, body: string | Uint8Array, headers: Readonly<Record<string, string>> = {}): Promise<void> {
    const { status, json, bytes } = await server.rest(path, { method: "POST", body, headers });
    const said = `${path} ${Buffer.from(body).toString().slice(0, 400)}: ${status} ${bytes.toString().slice(0, 200)}`;
    assert.ok(status < 500, said);
    if (status >= 400) assert.equal(typeof (json as { error?: unknown } | undefined)?.error, "string", said);
  }

  test(`${runs} JSON bodies that are nearly right`, async () => {
    const body = fc.oneof(mutated(v2), mutated(v1)).map((value) => JSON.stringify(value) ?? "");
    const path = fc.constantFrom("/v2/models/addsub/infer", "/v1/models/addsub:predict");
    await fc.assert(
      fc.asyncProperty(path, body, (to, text) => askRest(to, text)),
      { numRuns: runs },
    );
  });

  test("JSON with binary tensors behind it, whose lengths lie", async () => {
    const head = {
      inputs: ["a", "b"].map((name) => ({ name, shape: [1, 16], datatype: "INT32", parameters: { binary_data_size: 64 } })),
    };
    const request = fc.record({
      json: mutated(head),
      tail: fc.uint8Array({ maxLength: 200 }),
      add: fc.constantFrom(0, 0, 1, -1, 10_000, -10_000),
    });
    await fc.assert(
      fc.asyncProperty(request, async ({ json, tail, add }) => {
        const text = Buffer.from(JSON.stringify(json) ?? "");
        const headers = { "inference-header-content-length": `${text.length + add}`, "content-type": "application/octet-stream" };
        await askRest("/v2/models/addsub/infer", Buffer.concat([text, tail]), headers);
      }),
      { numRuns: 500 },
    );
  });

  async function askGrpc(message: Uint8Array): Promise<void> {
    const { status, message: said } = await grpc.call(inferencePath("ModelInfer"), frameOf(message));
    // OK, INVALID_ARGUMENT, NOT_FOUND (a version), UNAVAILABLE (a model that is not here); INTERNAL and UNKNOWN would be faults.
    assert.ok(
      status !== undefined && [0, 3, 5, 14].includes(status),
      `${Buffer.from(message).toString("hex")}: ${status} ${said}`,
    );
  }

  const tensor = fc.record(
    {
      name: fc.constantFrom("a", "b", "c", ""),
      datatype: fc.constantFrom("INT32", "FP32", "BYTES", "X", ""),
      shape: fc.array(fc.oneof(fc.constantFrom(1n, 16n), fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n)), { maxLength: 4 }),
      contents: fc.record(
        {
          intContents: fc.oneof(fc.constant(ones), fc.array(fc.integer())),
          fp32Contents: fc.array(fc.float()),
          bytesContents: fc.array(fc.uint8Array()),
        },
        { requiredKeys: [] },
      ),
    },
    { requiredKeys: [] },
  );
  const message: fc.Arbitrary<MessageInitShape<typeof ModelInferRequestSchema>> = fc.record(
    {
      modelName: fc.oneof({ weight: 9, arbitrary: fc.constant("addsub") }, fc.string()),
      modelVersion: fc.oneof({ weight: 9, arbitrary: fc.constant("") }, fc.string()),
      inputs: fc.array(tensor, { maxLength: 3 }),
      outputs: fc.array(fc.record({ name: fc.constantFrom("sum", "x", "") }), { maxLength: 2 }),
      rawInputContents: fc.array(fc.oneof(fc.constant(new Uint8Array(64)), fc.uint8Array()), { maxLength: 3 }),
    },
    { requiredKeys: ["modelName"] },
  );

  test(`${runs} messages that are nearly right, whole and with bytes changed`, async () => {
    const bytes = fc
      .tuple(message, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }), fc.option(fc.nat(), { nil: undefined }))
      .map(([given, changes, cut]) => {
        const whole = Buffer.from(toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, given)));
        for (const [at, by] of changes) if (whole.length > 0) whole[at % whole.length] = by;
        return cut === undefined || cut % 4 > 0 ? whole : whole.subarray(0, cut % (whole.length + 1));
      });
    await fc.assert(fc.asyncProperty(bytes, askGrpc), { numRuns: runs });
  });

  test("it infers as before", async () => {
    const { status } = await server.rest("/v2/models/addsub/infer", { method: "POST", body: v2 });
    assert.equal(status, 200);
  });
});
