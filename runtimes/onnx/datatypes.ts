// Owns the V2 datatypes: their names, sizes, ranges and the typed arrays that hold them, and which ONNX Runtime type each is.
import type { Tensor } from "onnxruntime-node";

/** The elements of one tensor, in row-major order. FP16 in a Float16Array, BOOL as bytes of 0 and 1, BYTES as texts. */
export type Elements =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | BigUint64Array
  | BigInt64Array
  | Float16Array
  | Float32Array
  | Float64Array
  | readonly string[];

export type NumberElements = Exclude<Elements, readonly string[] | BigUint64Array | BigInt64Array>;

interface NumberType {
  readonly family: "integer" | "float";
  readonly name: "UINT8" | "INT8" | "UINT16" | "INT16" | "UINT32" | "INT32" | "FP16" | "FP32" | "FP64";
  readonly ort: Tensor.Type;
  readonly elementBytes: number;
  readonly min: number;
  readonly max: number;
  readonly create: (count: number) => NumberElements;
  readonly view: (bytes: ArrayBuffer) => NumberElements;
}

interface BigType {
  readonly family: "big";
  readonly name: "UINT64" | "INT64";
  readonly ort: Tensor.Type;
  readonly elementBytes: 8;
  readonly min: bigint;
  readonly max: bigint;
  readonly create: (count: number) => BigUint64Array | BigInt64Array;
  readonly view: (bytes: ArrayBuffer) => BigUint64Array | BigInt64Array;
}

interface BoolType {
  readonly family: "bool";
  readonly name: "BOOL";
  readonly ort: "bool";
  readonly elementBytes: 1;
}

interface BytesType {
  readonly family: "bytes";
  readonly name: "BYTES";
  readonly ort: "string";
}

export type DatatypeInfo = NumberType | BigType | BoolType | BytesType;

type NumberArray = {
  new (count: number): NumberElements;
  new (bytes: ArrayBuffer): NumberElements;
  readonly BYTES_PER_ELEMENT: number;
};
type BigArray<T> = { new (count: number): T; new (bytes: ArrayBuffer): T };

function number(
  family: NumberType["family"],
  name: NumberType["name"],
  ort: Tensor.Type,
  of: NumberArray,
  min = -Infinity,
  max = Infinity,
): NumberType {
  return {
    family,
    name,
    ort,
    elementBytes: of.BYTES_PER_ELEMENT,
    min,
    max,
    create: (count) => new of(count),
    view: (bytes) => new of(bytes),
  };
}

function big(
  name: BigType["name"],
  ort: Tensor.Type,
  of: BigArray<BigUint64Array | BigInt64Array>,
  min: bigint,
  max: bigint,
): BigType {
  return {
    family: "big",
    name,
    ort,
    elementBytes: 8,
    min,
    max,
    create: (count) => new of(count),
    view: (bytes) => new of(bytes),
  };
}

const table: readonly DatatypeInfo[] = [
  { family: "bool", name: "BOOL", ort: "bool", elementBytes: 1 },
  number("integer", "UINT8", "uint8", Uint8Array, 0, 255),
  number("integer", "INT8", "int8", Int8Array, -128, 127),
  number("integer", "UINT16", "uint16", Uint16Array, 0, 65_535),
  number("integer", "INT16", "int16", Int16Array, -32_768, 32_767),
  number("integer", "UINT32", "uint32", Uint32Array, 0, 4_294_967_295),
  number("integer", "INT32", "int32", Int32Array, -2_147_483_648, 2_147_483_647),
  big("UINT64", "uint64", BigUint64Array, 0n, 18_446_744_073_709_551_615n),
  big("INT64", "int64", BigInt64Array, -9_223_372_036_854_775_808n, 9_223_372_036_854_775_807n),
  number("float", "FP16", "float16", Float16Array),
  number("float", "FP32", "float32", Float32Array),
  number("float", "FP64", "float64", Float64Array),
  { family: "bytes", name: "BYTES", ort: "string" },
];

const byName: ReadonlyMap<string, DatatypeInfo> = new Map(table.map((info) => [info.name, info]));
const byOrt: ReadonlyMap<string, DatatypeInfo> = new Map(table.map((info) => [info.ort, info]));

export const datatypes: readonly DatatypeInfo[] = table;

export function findDatatype(name: string): DatatypeInfo | undefined {
  return byName.get(name);
}

/** Undefined for ONNX types that V2 has no datatype for (4-bit integers, bfloat16 and the like). */
export function findDatatypeOfOrt(ort: string): DatatypeInfo | undefined {
  return byOrt.get(ort);
}
