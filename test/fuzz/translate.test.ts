// What Envoy makes of V2 over REST for a model server that has gRPC alone, and of its answers, is what libraries make of the same:
// for random requests and answers in every form, and for what is broken on purpose. The scripts run in the real Envoy.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ModelInferRequestSchema, ModelInferResponseSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { openTranslator, type Translator } from "../harness/translator.ts";
import {
  anyText,
  type Choose,
  contentsOf,
  createChoose,
  type Element,
  jsonData,
  jsonObject,
  jsonParameters,
  jsonText,
  type Parameter,
  parameterInit,
  parameters,
  rawOf,
  type Tensor,
  tensor,
} from "./tensors.ts";

const numRuns = 1_500;
const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_128);
let it: Translator;

before(async () => {
  it = await openTranslator();
});
after(() => it?.[Symbol.asyncDispose]());

interface Given {
  readonly id: string | undefined;
  readonly tensors: readonly (Tensor & { readonly binary: boolean; readonly parameters: Readonly<Record<string, Parameter>> })[];
  readonly parameters: Readonly<Record<string, Parameter>>;
  readonly outputs: readonly { readonly name: string; readonly parameters: Readonly<Record<string, Parameter>> }[];
  readonly drawn: readonly number[];
}

const given: fc.Arbitrary<Given> = fc.record({
  id: fc.option(anyText, { nil: undefined }),
  tensors: fc.array(
    fc
      .tuple(tensor, fc.integer({ min: 0, max: 9 }), parameters)
      .map(([of, draw, more]) => ({ ...of, binary: draw === 0, parameters: more })),
    { maxLength: 3 },
  ),
  parameters,
  outputs: fc.array(fc.record({ name: anyText, parameters }), { maxLength: 2 }),
  drawn: fc.array(fc.nat(1_000), { minLength: 1, maxLength: 40 }),
});

function asJson({ id, tensors, parameters: own, outputs }: Given, choose: Choose): string {
  const inputs = tensors.map((of) => {
    const more = { ...of.parameters, ...(of.binary ? { binary_data_size: BigInt(rawOf(of).length) } : {}) };
    return jsonObject(
      [
        ["name", jsonText(of.name, choose)],
        ["datatype", jsonText(of.datatype, choose)],
        ["shape", `[${of.shape.join(", ")}]`],
        ["parameters", jsonParameters(more, choose)],
        ...(of.binary ? [] : [["data", jsonData(of, choose)] as const]),
        ["unknown", '{"a":[1,{"b":null}],"c":"\\""}'],
      ],
      choose,
    );
  });
  const wanted = outputs.map(({ name, parameters: more }) =>
    jsonObject(
      [
        ["name", jsonText(name, choose)],
        ["parameters", jsonParameters({ ...more, binary_data: true }, choose)],
      ],
      choose,
    ),
  );
  return jsonObject(
    [
      ...(id === undefined ? [] : [["id", jsonText(id, choose)] as const]),
      ["inputs", `[${inputs.join(",")}]`],
      ["outputs", `[${wanted.join(",")}]`],
      ["parameters", jsonParameters({ ...own, binary_data_output: false }, choose)],
    ],
    choose,
  );
}

const inits = (of: Readonly<Record<string, Parameter>>) =>
  Object.fromEntries(Object.entries(of).map(([key, value]) => [key, parameterInit(value)]));

/** As a library would make it. */
function asMessage({ id = "", tensors, parameters: own, outputs }: Given): MessageInitShape<typeof ModelInferRequestSchema> {
  const raw = tensors.some(({ binary, datatype }) => binary || datatype === "FP16");
  return {
    modelName: "iris",
    id,
    parameters: inits(own),
    inputs: tensors.map((of) => ({
      name: of.name,
      datatype: of.datatype,
      shape: of.shape.map(BigInt),
      parameters: inits(of.parameters),
      ...(raw ? {} : { contents: contentsOf(of) }),
    })),
    outputs: outputs.map(({ name, parameters: more }) => ({ name, parameters: inits(more) })),
    rawInputContents: raw ? tensors.map(rawOf) : [],
  };
}

/** For a comparison in which a NaN equals itself. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, of: unknown) => {
      if (typeof of === "bigint") return `${of}n`;
      if (typeof of === "number") return Object.is(of, -0) ? "-0" : `${of}`;
      if (of instanceof Uint8Array) return Buffer.from(of).toString("hex");
      if (typeof of === "object" && of !== null && "type" in of && of.type === "Buffer" && "data" in of && Array.isArray(of.data))
        return Buffer.from(of.data as number[]).toString("hex");
      // The order of a map's entries means nothing.
      return typeof of === "object" && of !== null && !Array.isArray(of)
        ? Object.fromEntries(Object.entries(of).sort(([a], [b]) => (a < b ? -1 : 1)))
        : of;
    }),
  );
}

test("a request in JSON becomes the message that a library makes of it", async () => {
  it.replyMessage(toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, {})));
  await fc.assert(
    fc.asyncProperty(given, async (request) => {
      it.calls.length = 0;
      const json = asJson(request, createChoose(request.drawn));
      const binary = request.tensors.filter((of) => of.binary).map(rawOf);
      const body = Buffer.concat([Buffer.from(json), ...binary]);
      const headers: [string, string][] =
        binary.length === 0 ? [] : [["inference-header-content-length", `${Buffer.byteLength(json)}`]];
      const answer = await it.client.ask("/v2/models/iris/infer", { headers, body });
      assert.equal(answer.status, 200, `${answer.text}\n${json}`);
      const [call] = it.calls;
      assert.ok(call !== undefined);
      assert.equal(call.body.readUInt32BE(1), call.body.length - 5);
      const message = fromBinary(ModelInferRequestSchema, call.body.subarray(5));
      assert.deepEqual(plain(message), plain(create(ModelInferRequestSchema, asMessage(request))), json);
    }),
    { numRuns, seed },
  );
});

/** Numbers as they are written, so that none of their digits is lost. */
function exactly(text: string): unknown {
  return JSON.parse(text, (_, value: unknown, context?: { readonly source?: string }) =>
    typeof value === "number" ? { number: context?.source } : value,
  );
}

function isElement(datatype: string, expected: Element, told: unknown): boolean {
  if (expected instanceof Uint8Array) return told === Buffer.from(expected).toString();
  if (typeof expected === "boolean") return told === expected;
  if (typeof expected === "number" && !Number.isFinite(expected)) return told === `${expected}`;
  const source = (told as { readonly number?: string }).number;
  if (source === undefined) return false;
  if (typeof expected === "bigint") return source === `${expected}`;
  const value = Number(source);
  if (datatype === "FP16") return Object.is(Float16Array.of(value)[0], expected);
  return Object.is(datatype === "FP32" ? Math.fround(value) : value, expected);
}

test("an answer becomes JSON that says the same, from lists of numbers and from raw bytes", async () => {
  const run = fc.record({ given, raw: fc.boolean(), version: anyText });
  await fc.assert(
    fc.asyncProperty(run, async ({ given: of, raw: wished, version }) => {
      const raw = wished || of.tensors.some(({ datatype }) => datatype === "FP16");
      const outputs = of.tensors.map((each) => ({
        name: each.name,
        datatype: each.datatype,
        shape: each.shape.map(BigInt),
        parameters: inits(each.parameters),
        ...(raw ? {} : { contents: contentsOf(each) }),
      }));
      const message = create(ModelInferResponseSchema, {
        modelName: "iris~3",
        modelVersion: version,
        id: of.id ?? "",
        parameters: inits(of.parameters),
        outputs,
        rawOutputContents: raw ? of.tensors.map(rawOf) : [],
      });
      it.replyMessage(toBinary(ModelInferResponseSchema, message));
      const { status, text } = await it.client.ask("/v2/models/iris~3/infer", { body: '{"inputs":[]}' });
      assert.equal(status, 200, text);
      const told = exactly(text) as Record<string, unknown> & { readonly outputs: Record<string, unknown>[] };
      assert.deepEqual([told["model_name"], told["model_version"], told["id"] ?? ""], ["iris", version, of.id ?? ""]);
      const jsonOf = (value: Parameter) => (typeof value === "bigint" ? { number: `${value}` } : value);
      const parametersTold = (from: unknown): unknown =>
        Object.fromEntries(
          Object.entries((from ?? {}) as Record<string, unknown>).map(([key, value]) => {
            const number = (value as { readonly number?: string }).number;
            return [key, number !== undefined && /[.e]/.test(number) ? Number(number) : value];
          }),
        );
      const expected = (from: Readonly<Record<string, Parameter>>) =>
        Object.fromEntries(
          Object.entries(from).map(([key, value]) => {
            // A double that is whole is told without a point.
            if (typeof value === "number" && Number.isInteger(value) && Math.abs(value) < 1e15)
              return [key, { number: `${value}` }];
            return [key, jsonOf(value)];
          }),
        );
      assert.deepEqual(parametersTold(told["parameters"]), expected(of.parameters));
      assert.equal(told.outputs.length, of.tensors.length);
      for (const [index, output] of told.outputs.entries()) {
        const from = of.tensors[index];
        assert.ok(from !== undefined);
        assert.deepEqual([output["name"], output["datatype"]], [from.name, from.datatype]);
        assert.deepEqual(
          output["shape"],
          from.shape.map((dimension) => ({ number: `${dimension}` })),
        );
        assert.deepEqual(parametersTold(output["parameters"]), expected(from.parameters));
        const data = output["data"] as unknown[];
        assert.equal(data.length, from.elements.length);
        for (const [at, element] of from.elements.entries())
          assert.ok(
            isElement(from.datatype, element, data[at]),
            `${from.datatype} ${String(element)}: ${JSON.stringify(data[at])}`,
          );
      }
    }),
    { numRuns, seed },
  );
});

/** A copy with bytes changed, gone, doubled or put in, as the numbers say, three for each change. */
function broken(bytes: Uint8Array, change: readonly number[]): Buffer {
  let all = Buffer.from(bytes);
  for (let at = 0; at + 2 < change.length; at += 3) {
    const [place = 0, kind = 0, value = 0] = change.slice(at, at + 3);
    const from = place % (all.length + 1);
    const part = all.subarray(from, from + 1 + (value % 8));
    if (kind % 4 === 0) all = Buffer.concat([all.subarray(0, from), all.subarray(from + part.length)]);
    else if (kind % 4 === 1) all = Buffer.concat([all.subarray(0, from), part, all.subarray(from)]);
    else if (kind % 4 === 2) all = Buffer.concat([all.subarray(0, from), Buffer.of(value % 256), all.subarray(from)]);
    else all[Math.min(from, all.length - 1)] = value % 256;
  }
  return all;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function isJson(body: Uint8Array): boolean {
  try {
    JSON.parse(strict.decode(body));
    return true;
  } catch {
    return false;
  }
}

test("a request that is broken somewhere is answered with 400, or was none the less JSON", async () => {
  it.replyMessage(toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, {})));
  const run = fc.record({ given, change: fc.array(fc.nat(1e6), { minLength: 3, maxLength: 9 }) });
  await fc.assert(
    fc.asyncProperty(run, async ({ given: request, change }) => {
      const whole = { ...request, tensors: request.tensors.map((of) => ({ ...of, binary: false })) };
      const body = broken(Buffer.from(asJson(whole, createChoose(request.drawn))), change);
      it.calls.length = 0;
      const { status, text } = await it.client.ask("/v2/models/iris/infer", { body });
      assert.ok(status === 200 || status === 400, `${status} ${text}`);
      if (status === 200) {
        assert.ok(isJson(body), `taken, and no JSON: ${body.toString("latin1")}`);
        fromBinary(ModelInferRequestSchema, it.calls[0]?.body.subarray(5) ?? Buffer.of(0xff));
      }
      if (!isJson(body)) assert.equal(status, 400);
    }),
    { numRuns, seed },
  );
  assert.doesNotMatch(it.printed(), /script log|lua/);
});

test("an answer of any bytes becomes JSON, or 502", async () => {
  const run = fc.record({ given, raw: fc.boolean(), change: fc.array(fc.nat(1e6), { maxLength: 9 }) });
  await fc.assert(
    fc.asyncProperty(run, async ({ given: of, raw, change }) => {
      const outputs = of.tensors.map((each) => ({
        name: each.name,
        datatype: each.datatype,
        shape: each.shape.map(BigInt),
        parameters: inits(each.parameters),
        ...(raw ? {} : { contents: contentsOf(each) }),
      }));
      const init = { outputs, id: of.id ?? "", rawOutputContents: raw ? of.tensors.map(rawOf) : [] };
      it.replyMessage(broken(Buffer.from(toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, init))), change));
      const { status, text } = await it.client.ask("/v2/models/iris/infer", { body: '{"inputs":[]}' });
      assert.ok(status === 200 || status === 502, `${status} ${text}`);
      JSON.parse(text);
      assert.ok(text.isWellFormed() && !text.includes("\ufffd\ufffd\ufffd"), text);
    }),
    { numRuns, seed },
  );
  assert.doesNotMatch(it.printed(), /script log|lua/);
});
