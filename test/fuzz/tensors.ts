// Owns V2 tensors for property tests of what puts REST into gRPC: random ones, as JSON in every form that it may have, and as the
// messages that a library makes of them.
import * as fc from "fast-check";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { InferParameterSchema, InferTensorContentsSchema } from "#proto/gen/inference/open_inference_pb.ts";

export type Element = boolean | number | bigint | Uint8Array;
export type Datatype = keyof typeof kinds;

export interface Tensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly elements: readonly Element[];
}

const whole = (min: number, max: number) => fc.oneof(fc.constantFrom(min, max, 0), fc.integer({ min, max }));
const long = (min: bigint, max: bigint) => fc.oneof(fc.constantFrom(min, max, 0n, 2n ** 53n + 1n), fc.bigInt({ min, max }));
const single = fc.float().map(Math.fround);
const half = fc.integer({ min: 0, max: 65_535 }).map((bits) => new Float16Array(Uint16Array.of(bits).buffer)[0] ?? 0);
const text = fc.oneof(fc.string({ unit: "grapheme", maxLength: 12 }), fc.string({ unit: "binary", maxLength: 8 }));
export const anyText = text.filter((value) => value.isWellFormed());

/** Of each datatype: its elements, and the part of a message that holds them. */
const kinds = {
  BOOL: { element: fc.boolean(), contents: "boolContents", size: 1 },
  INT8: { element: whole(-128, 127), contents: "intContents", size: 1 },
  INT16: { element: whole(-32_768, 32_767), contents: "intContents", size: 2 },
  INT32: { element: whole(-(2 ** 31), 2 ** 31 - 1), contents: "intContents", size: 4 },
  INT64: { element: long(-(2n ** 63n), 2n ** 63n - 1n), contents: "int64Contents", size: 8 },
  UINT8: { element: whole(0, 255), contents: "uintContents", size: 1 },
  UINT16: { element: whole(0, 65_535), contents: "uintContents", size: 2 },
  UINT32: { element: whole(0, 2 ** 32 - 1), contents: "uintContents", size: 4 },
  UINT64: { element: long(0n, 2n ** 64n - 1n), contents: "uint64Contents", size: 8 },
  FP16: { element: half, contents: undefined, size: 2 },
  FP32: { element: single, contents: "fp32Contents", size: 4 },
  FP64: { element: fc.double(), contents: "fp64Contents", size: 8 },
  BYTES: { element: anyText.map((value) => Buffer.from(value)), contents: "bytesContents", size: 0 },
} as const satisfies Record<
  string,
  {
    readonly element: fc.Arbitrary<Element>;
    readonly contents: keyof MessageInitShape<typeof InferTensorContentsSchema> | undefined;
    readonly size: number;
  }
>;

export const datatypes = Object.keys(kinds) as Datatype[];

export const tensor: fc.Arbitrary<Tensor> = fc
  .record({
    name: anyText,
    datatype: fc.constantFrom(...datatypes),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
  })
  .chain(({ name, datatype, shape }) => {
    const count = shape.reduce((product, dimension) => product * dimension, 1);
    const element: fc.Arbitrary<Element> = kinds[datatype].element;
    return fc.record({
      name: fc.constant(name),
      datatype: fc.constant(datatype),
      shape: fc.constant(shape),
      elements: fc.array(element, { minLength: count, maxLength: count }),
    });
  });

export function contentsOf({ datatype, elements }: Tensor): MessageInitShape<typeof InferTensorContentsSchema> {
  const field = kinds[datatype].contents;
  return field === undefined ? {} : { [field]: [...elements] };
}

export function rawOf({ datatype, elements }: Tensor): Buffer {
  return Buffer.concat(elements.map((element) => rawElement(datatype, element)));
}

function rawElement(datatype: Datatype, element: Element): Uint8Array {
  if (element instanceof Uint8Array) {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(element.length);
    return Buffer.concat([head, element]);
  }
  if (typeof element === "bigint") return new Uint8Array(BigInt64Array.of(BigInt.asIntN(64, element)).buffer);
  if (datatype === "FP16" && Number.isNaN(element)) return Buffer.of(0, 0x7e);
  if (datatype === "FP16") return new Uint8Array(Float16Array.of(Number(element)).buffer);
  if (datatype === "FP32") return new Uint8Array(Float32Array.of(Number(element)).buffer);
  if (datatype === "FP64") return new Uint8Array(Float64Array.of(Number(element)).buffer);
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(element));
  return bytes.subarray(0, kinds[datatype].size);
}

// --- As JSON.

/** Draws one of several ways to write the same thing. */
export type Choose = (ways: number) => number;

/** From numbers that fast-check draws, over and over. */
export function createChoose(drawn: readonly number[]): Choose {
  let at = 0;
  return (ways) => (drawn[at++ % drawn.length] ?? 0) % ways;
}

export function jsonText(value: string, choose: Choose): string {
  const escaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const way = choose(4);
  if (way === 0) return `"${value.split("").map(escaped).join("")}"`;
  const plain = JSON.stringify(value);
  return way === 1 ? plain.replaceAll("/", "\\/") : plain;
}

export function blank(choose: Choose): string {
  return ["", "", "", " ", "\n\t", "\r "][choose(6)] ?? "";
}

function jsonElement(datatype: Datatype, element: Element, choose: Choose): string {
  if (element instanceof Uint8Array) return jsonText(Buffer.from(element).toString(), choose);
  if (typeof element === "boolean") return choose(2) === 0 ? `${element}` : element ? "1" : "0";
  if (typeof element === "bigint") return `${element}`;
  if (!Number.isFinite(element)) return `"${element}"`;
  if (!datatype.startsWith("FP")) return choose(8) === 0 ? `${element}.0e0` : `${element}`;
  const sign = Object.is(element, -0) ? "-" : "";
  return (
    sign + ([`${element}`, element.toExponential(), element.toPrecision(17), `${element}`.replace("e+", "E")][choose(4)] ?? "0")
  );
}

/** Flat, or nested as its shape. */
export function jsonData({ datatype, shape, elements }: Tensor, choose: Choose): string {
  const texts = elements.map((element) => `${blank(choose)}${jsonElement(datatype, element, choose)}${blank(choose)}`);
  if (shape.length < 2 || shape[0] === 0 || choose(2) === 0) return `[${texts.join(",")}]`;
  let at = 0;
  const level = (depth: number): string => {
    const width = shape[depth] ?? 0;
    const parts = Array.from({ length: width }, () => (depth === shape.length - 1 ? (texts[at++] ?? "") : level(depth + 1)));
    return `[${blank(choose)}${parts.join(",")}${blank(choose)}]`;
  };
  return level(0);
}

/** Members in any order. */
export function jsonObject(members: readonly (readonly [string, string])[], choose: Choose): string {
  const left = [...members];
  const parts: string[] = [];
  while (left.length > 0) {
    const [member] = left.splice(choose(left.length), 1);
    if (member === undefined) break;
    const [key, value] = member;
    parts.push(`${blank(choose)}${jsonText(key, choose)}${blank(choose)}:${blank(choose)}${value}${blank(choose)}`);
  }
  return `{${parts.join(",") || blank(choose)}}`;
}

export type Parameter = boolean | bigint | number | string;

export const parameters = fc.dictionary(
  anyText.filter((key) => key !== "__proto__" && key !== "content_type" && !key.startsWith("binary_data")),
  fc.oneof(
    fc.boolean(),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
    fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => /[.e]/.test(`${value}`)),
    anyText,
  ),
  { maxKeys: 3, noNullPrototype: true },
);

export function parameterInit(value: Parameter): MessageInitShape<typeof InferParameterSchema> {
  if (typeof value === "boolean") return { parameterChoice: { case: "boolParam", value } };
  if (typeof value === "string") return { parameterChoice: { case: "stringParam", value } };
  if (typeof value === "number") return { parameterChoice: { case: "doubleParam", value } };
  return { parameterChoice: value < 2n ** 63n ? { case: "int64Param", value } : { case: "uint64Param", value } };
}

export function jsonParameters(given: Readonly<Record<string, Parameter>>, choose: Choose): string {
  const text = (value: Parameter): string => (typeof value === "string" ? jsonText(value, choose) : `${value}`);
  return jsonObject(
    Object.entries(given).map(([key, value]) => [key, text(value)]),
    choose,
  );
}
