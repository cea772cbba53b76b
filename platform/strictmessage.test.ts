// Messages of strangers are read as every other reader reads them, or refused.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { readStrictly } from "./strictmessage.ts";

const read = (hex: string): string => readStrictly(ModelInferRequestSchema, Buffer.from(hex, "hex")).modelName;

describe("a message from a stranger", () => {
  test("is read as it was written", () => {
    const request = fc.record({
      modelName: fc.string(),
      modelVersion: fc.string(),
      id: fc.string(),
      parameters: fc.dictionary(fc.string(), fc.constant({ parameterChoice: { case: "int64Param" as const, value: -3n } })),
      inputs: fc.array(
        fc.record({
          name: fc.string(),
          datatype: fc.string(),
          shape: fc.array(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n)),
          contents: fc.record({
            boolContents: fc.array(fc.boolean()),
            intContents: fc.array(fc.integer()),
            fp32Contents: fc.array(fc.float()),
            fp64Contents: fc.array(fc.double()),
            bytesContents: fc.array(fc.uint8Array()),
          }),
        }),
        { maxLength: 3 },
      ),
      rawInputContents: fc.array(fc.uint8Array(), { maxLength: 3 }),
    });
    fc.assert(
      fc.property(request, (given) => {
        const bytes = Buffer.from(toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, given)));
        assert.deepEqual(Buffer.from(toBinary(ModelInferRequestSchema, readStrictly(ModelInferRequestSchema, bytes))), bytes);
      }),
    );
  });

  const odd: Readonly<Record<string, string>> = {
    "the name as a fixed 64-bit number, of which the library makes a text": "0a0169090776696374696d31",
    "the name as a 32-bit number": "0a01690d03616263",
    "the name as a varint": "0a01690803626162",
    "a tensor that reads beyond its own end": "320482bfb2bb0a027859",
    "a group": "0b0c",
    "a field without a number": "0000",
    "a key of more than 32 bits": "8a808080100169",
    "numbers that are cut off": "2a061a0380808000",
    "what ends too early": "0a05",
  };
  for (const [name, hex] of Object.entries(odd)) test(`is refused: ${name}`, () => assert.throws(() => read(hex)));

  test("may be longer than it need be", () => assert.equal(read("8a00810069"), "i"));

  test("of any bytes is read or refused, and never anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          readStrictly(ModelInferRequestSchema, Buffer.from(bytes));
        } catch (error) {
          assert.ok(error instanceof Error);
        }
      }),
      { numRuns: 10_000 },
    );
  });
});
