// What Envoy makes of V2 over REST for a model server that has gRPC alone, and of its answers, is what libraries make of the same:
// for random requests and answers in every form, and for what is broken on purpose. The scripts run in the real Envoy.
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { Agent, request as ask } from "undici";
import { ModelInferRequestSchema, ModelInferResponseSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { frameOf } from "../harness/grpc.ts";
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

function outputsOf({ tensors }: Given, raw: boolean) {
  return tensors.map((each) => ({
    name: each.name,
    datatype: each.datatype,
    shape: each.shape.map(BigInt),
    parameters: inits(each.parameters),
    ...(raw ? {} : { contents: contentsOf(each) }),
  }));
}

test("an answer becomes JSON that says the same, from lists of numbers and from raw bytes", async () => {
  const run = fc.record({ given, raw: fc.boolean(), version: anyText });
  await fc.assert(
    fc.asyncProperty(run, async ({ given: of, raw: wished, version }) => {
      const raw = wished || of.tensors.some(({ datatype }) => datatype === "FP16");
      const outputs = outputsOf(of, raw);
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
      const outputs = outputsOf(of, raw);
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

/** A field of any number and wire type, whose length may lie; what it holds may be fields again. */
const { message: anyMessage } = fc.letrec<{ message: Buffer; field: Buffer }>((tie) => ({
  message: fc.array(tie("field"), { maxLength: 6 }).map((fields) => Buffer.concat(fields)),
  field: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.tuple(fc.integer({ min: 0, max: 9 }), anyVarint()).map(([number, value]) => Buffer.concat([Buffer.of(number * 8), value])),
    fc
      .tuple(fc.integer({ min: 1, max: 9 }), fc.constantFrom(1, 3, 4, 5, 6, 7), fc.uint8Array({ maxLength: 9 }))
      .map(([number, wire, bytes]) => Buffer.concat([Buffer.of(number * 8 + wire), bytes])),
    fc
      .tuple(
        fc.constantFrom(1, 2),
        fc.constantFrom("BYTES", "FP64", "FP32", "FP16", "INT8", "UINT64", "BOOL", "order", "content_type"),
      )
      .map(([number, of]) => Buffer.concat([Buffer.of(number * 8 + 2, of.length), Buffer.from(of)])),
    fc
      .tuple(fc.integer({ min: 1, max: 8 }), fc.option(anyVarint(), { freq: 8, nil: undefined }), tie("message"))
      .map(([number, lie, of]) => Buffer.concat([Buffer.of(number * 8 + 2), lie ?? varintOf(BigInt(of.length)), of])),
  ),
}));

function varintOf(value: bigint): Buffer {
  const bytes: number[] = [];
  for (; value > 127n; value >>= 7n) bytes.push(Number(value & 127n) | 128);
  return Buffer.of(...bytes, Number(value));
}

function anyVarint(): fc.Arbitrary<Buffer> {
  const edges = [
    0n,
    1n,
    127n,
    2n ** 31n - 1n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n,
    2n ** 63n - 1n,
    2n ** 63n,
    2n ** 64n - 1n,
    2n ** 70n,
  ];
  return fc.oneof(
    fc.constantFrom(...edges).map(varintOf),
    fc.bigInt({ min: 0n, max: 300n }).map(varintOf),
    fc.uint8Array({ minLength: 1, maxLength: 12 }).map((bytes) => Buffer.from(bytes.map((byte) => byte | 128))),
  );
}

test("a message with any fields and lengths that lie becomes JSON, or 502", async () => {
  const calls = fc.constantFrom("/infer", "", "/ready");
  await fc.assert(
    fc.asyncProperty(anyMessage, calls, fc.boolean(), async (message, call, binary) => {
      it.replyMessage(message);
      const body = JSON.stringify({ inputs: [], parameters: { binary_data_output: binary } });
      const { status, text } = await it.client.ask(`/v2/models/iris${call}`, call === "/infer" ? { body } : {});
      assert.ok(status === 200 || status === 502 || (call === "/ready" && status === 503), `${status} ${text}`);
      if (!binary) JSON.parse(text);
    }),
    { numRuns, seed },
  );
  assert.doesNotMatch(it.printed(), /script log|lua|EXIT/);
});

test("long lists of numbers of any bits, which are read and written by compiled code", async () => {
  const count = 20_000;
  const views = { FP64: Float64Array, FP32: Float32Array, FP16: Float16Array, UINT64: BigUint64Array, INT16: Int16Array };
  const run = fc.record({ datatype: fc.constantFrom(...(Object.keys(views) as (keyof typeof views)[])), start: fc.nat() });
  await fc.assert(
    fc.asyncProperty(run, async ({ datatype, start }) => {
      const words = new Uint32Array(count * 2);
      let state = start | 1;
      for (let at = 0; at < words.length; at++) {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        // Every other is a NaN or an infinity where it is the upper half of a double, or a float.
        words[at] = state % 2 === 0 ? state : state | 0x7f_f0_00_00;
      }
      const bytes = Buffer.from(words.buffer);
      const elements: (number | bigint)[] = Array.from(new views[datatype](words.buffer) as ArrayLike<number | bigint>);
      const outputs = [{ name: "y", datatype, shape: [BigInt(elements.length)] }];
      const init = { outputs, rawOutputContents: [bytes] };
      it.replyMessage(toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, init)));
      const { status, text } = await it.client.ask("/v2/models/iris/infer", { body: '{"inputs":[]}' });
      assert.equal(status, 200, text.slice(0, 200));
      const [output] = (exactly(text) as { readonly outputs: readonly { readonly data: readonly unknown[] }[] }).outputs;
      assert.equal(output?.data.length, elements.length);
      for (const [at, element] of elements.entries())
        assert.ok(isElement(datatype, element, output?.data[at]), `${datatype} ${element}: ${JSON.stringify(output?.data[at])}`);
    }),
    { numRuns: 40, seed },
  );
});

/** A quarter at a time, each so many turns of the loop behind the one before. */
async function* inPieces(bytes: Buffer, turns: number): AsyncGenerator<Buffer> {
  const length = 1 + (bytes.length >> 2);
  for (let at = 0; at < bytes.length; at += length) {
    yield bytes.subarray(at, at + length);
    for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
  }
}

test("calls that are under way together, in pieces, get their own answers", async () => {
  const agent = new Agent({ connections: 16 });
  // The model server says what it was given, or breaks that off, or holds other bytes.
  it.reply(({ body, headers }) => {
    const { id, inputs, parameters: more, rawInputContents } = fromBinary(ModelInferRequestSchema, body.subarray(5));
    const outputs = inputs.map(({ name, datatype, shape, contents }) => ({
      name,
      datatype,
      shape,
      ...(contents && { contents }),
    }));
    const whole = { id, outputs, parameters: more, rawOutputContents: rawInputContents };
    const message = toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, whole));
    const kind = Number(headers["x-kind"]);
    const pieces = 1 + (message.length % 97);
    if (kind === 0) return { body: frameOf(message).subarray(0, -1), isReset: true, pieces };
    if (kind === 1) return { body: frameOf(message).subarray(0, -1), pieces };
    if (kind === 2)
      return { body: frameOf(message), trailers: { "grpc-status": "9", "grpc-message": encodeURIComponent(id) }, pieces };
    return { body: frameOf(message), pieces };
  });
  const call = fc.record({ given, kind: fc.nat(9), cut: fc.nat(9), isLeft: fc.nat(9) });
  let asked = 0;
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 2, maxLength: 16 }), async (calls) => {
        const together = calls.map(async ({ given: of, kind, cut, isLeft }) => {
          const id = `call-${asked++}`;
          const whole = { ...of, id, outputs: [], tensors: of.tensors.map((each) => ({ ...each, binary: false })) };
          const json = Buffer.from(asJson(whole, createChoose(of.drawn)));
          const signal = isLeft === 0 ? AbortSignal.timeout(cut) : null;
          const body = Readable.from(inPieces(json, cut));
          const headers = { "x-kind": `${kind}` };
          const answer = await ask(`${it.url}/v2/models/iris/infer`, { method: "POST", dispatcher: agent, headers, body, signal })
            .then(async ({ statusCode, body }) => ({ status: statusCode, text: await body.text() }))
            .catch((error: unknown) => {
              if (signal?.aborted) return undefined;
              throw error;
            });
          if (answer === undefined) return;
          assert.equal(answer.status, [503, 502, 412][kind] ?? 200, answer.text);
          const told = JSON.parse(answer.text) as { readonly id?: string; readonly error?: string; readonly outputs?: unknown[] };
          if (kind === 2) assert.equal(told.error, id);
          if (kind < 3) return;
          assert.equal(told.id, id);
          assert.deepEqual(
            told.outputs?.map((output) => (output as { readonly name: string }).name),
            of.tensors.map(({ name }) => name),
          );
          const data = (exactly(answer.text) as { readonly outputs: readonly { readonly data: readonly unknown[] }[] }).outputs;
          for (const [index, { datatype, elements }] of of.tensors.entries())
            for (const [at, element] of elements.entries())
              assert.ok(
                isElement(datatype, element, data[index]?.data[at]),
                `${datatype} ${String(element)}: ${JSON.stringify(data[index])}`,
              );
        });
        const settled = await Promise.allSettled(together);
        for (const each of settled) if (each.status === "rejected") throw each.reason;
      }),
      { numRuns: numRuns / 5, seed },
    );
  } finally {
    await agent.destroy();
  }
  assert.doesNotMatch(it.printed(), /script log|lua|EXIT/);
});
