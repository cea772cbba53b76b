// Owns tensors as JSON: values of any nesting -> elements, elements -> JSON text.
// 64-bit integers keep every digit both ways. JSON has no NaN and no infinity: they are the strings "NaN", "Infinity" and
// "-Infinity", as in the JSON form of protobuf; a number too large for its datatype is refused, never made infinite.
import type { DatatypeInfo, Elements } from "./datatypes.ts";
import { checkText } from "./rawdata.ts";
import { badRequest, quote, Refusal } from "./refusal.ts";

/** JSON with integers beyond 2^53 as bigint, so that 64-bit values arrive whole; undefined when it is no JSON. */
export function parseJson(text: string): { readonly value: unknown } | undefined {
  try {
    // The reviver costs ten times as much; only a text with a run of 16 digits can need it.
    return { value: longDigits.test(text) ? JSON.parse(text, keepDigits) : JSON.parse(text) };
  } catch {
    return undefined;
  }
}

const longDigits = /[:,[\s-]\d{16,20}\s*[\],}]/;
const integer = /^-?\d{16,20}$/;

function keepDigits(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source;
  return source !== undefined && integer.test(source) ? BigInt(source) : value;
}

/**
 * The elements of `data`, which is flat or nested as `shape` says. `count` is the product of the shape.
 */
export function parseJsonElements(
  info: DatatypeInfo,
  shape: readonly number[],
  count: number,
  data: unknown,
  what: string,
): Elements | Refusal {
  if (!Array.isArray(data)) return badRequest(`the data of ${what} must be an array`);
  const values: readonly unknown[] | Refusal = Array.isArray(data[0]) ? flatten(data, shape, what) : data;
  if (values instanceof Refusal) return values;
  if (values.length !== count) {
    return badRequest(`${what} has ${values.length} elements, but its shape [${shape.join(", ")}] makes ${count}`);
  }
  if (info.family === "big") return parseBigs(info, values, what);
  if (info.family === "bool") return parseBools(values, what);
  if (info.family === "bytes") return parseTexts(values, what);
  return parseNumbers(info, values, what);
}

function flatten(data: readonly unknown[], shape: readonly number[], what: string): readonly unknown[] | Refusal {
  let level: readonly unknown[] = data;
  for (let depth = 0; depth < shape.length; depth++) {
    const width = shape[depth];
    if (depth === 0) {
      if (level.length !== width) return ragged(what, shape);
      continue;
    }
    const next: unknown[] = [];
    for (const row of level) {
      if (!Array.isArray(row) || row.length !== width) return ragged(what, shape);
      for (const value of row) next.push(value);
    }
    level = next;
  }
  return level;
}

function ragged(what: string, shape: readonly number[]): Refusal {
  return badRequest(`the nested data of ${what} does not have its shape [${shape.join(", ")}]`);
}

function parseNumbers(
  info: Extract<DatatypeInfo, { family: "integer" | "float" }>,
  values: readonly unknown[],
  what: string,
): Elements | Refusal {
  const elements = info.create(values.length);
  const whole = info.family === "integer";
  for (let i = 0; i < values.length; i++) {
    const given = values[i];
    const value = typeof given === "number" ? given : whole ? Number.NaN : parseFloatText(given);
    if (typeof value !== "number" || (whole && !Number.isInteger(value))) return wrongValue(info.name, values[i], what);
    if (whole && (value > info.max || value < info.min)) return outOfRange(info.name, value, what);
    elements[i] = value;
    // Rounding decides: the largest FP32 as people print it, 3.4028235e38, is a little above the exact one.
    if (typeof given !== "string" && !Number.isFinite(elements[i])) return outOfRange(info.name, value, what);
  }
  return elements;
}

/** A float that JSON cannot write as a number. */
function parseFloatText(value: unknown): number | undefined {
  if (value === "NaN") return Number.NaN;
  if (value === "Infinity") return Number.POSITIVE_INFINITY;
  if (value === "-Infinity") return Number.NEGATIVE_INFINITY;
  return typeof value === "bigint" ? Number(value) : undefined;
}

function parseBigs(info: Extract<DatatypeInfo, { family: "big" }>, values: readonly unknown[], what: string): Elements | Refusal {
  const elements = info.create(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    let whole: bigint;
    if (typeof value === "bigint") whole = value;
    else if (typeof value !== "number" || !Number.isInteger(value)) return wrongValue(info.name, value, what);
    else if (!Number.isSafeInteger(value)) return outOfRange(info.name, value, what);
    else whole = BigInt(value);
    if (whole > info.max || whole < info.min) return outOfRange(info.name, whole, what);
    elements[i] = whole;
  }
  return elements;
}

function parseBools(values: readonly unknown[], what: string): Elements | Refusal {
  const elements = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value !== true && value !== false && value !== 0 && value !== 1) return wrongValue("BOOL", value, what);
    elements[i] = value === true || value === 1 ? 1 : 0;
  }
  return elements;
}

function parseTexts(values: readonly unknown[], what: string): Elements | Refusal {
  const elements: string[] = [];
  for (const value of values) {
    if (typeof value !== "string") return wrongValue("BYTES", value, what);
    const refused = checkText(value, what);
    if (refused !== undefined) return refused;
    elements.push(value);
  }
  return elements;
}

function wrongValue(name: string, value: unknown, what: string): Refusal {
  const told =
    typeof value === "string"
      ? quote(value)
      : Array.isArray(value)
        ? "an array"
        : typeof value === "object" && value !== null
          ? "an object"
          : String(value);
  return badRequest(`${what} is ${name}, which ${told} is not`);
}

function outOfRange(name: string, value: number | bigint, what: string): Refusal {
  return badRequest(`${value} in ${what} is outside the range of ${name}`);
}

/** The elements as one flat JSON array. */
export function buildJsonArray(info: DatatypeInfo, elements: Elements): string {
  return `[${buildJsonItems(info, elements, 0, elements.length)}]`;
}

/** The elements as nested JSON, `shape` deep; a scalar is a bare value. */
export function buildNestedJson(info: DatatypeInfo, elements: Elements, shape: readonly number[]): string {
  let at = 0;
  const level = (depth: number): string => {
    const width = shape[depth];
    if (width === undefined) return buildJsonItems(info, elements, at, ++at);
    if (depth === shape.length - 1) {
      const from = at;
      at += width;
      return `[${buildJsonItems(info, elements, from, at)}]`;
    }
    return `[${Array.from({ length: width }, () => level(depth + 1)).join(",")}]`;
  };
  return level(0);
}

function buildJsonItems(info: DatatypeInfo, elements: Elements, from: number, to: number): string {
  if (!ArrayBuffer.isView(elements)) {
    return elements
      .slice(from, to)
      .map((text) => JSON.stringify(text))
      .join(",");
  }
  const part = from === 0 && to === elements.length ? elements : elements.subarray(from, to);
  if (info.family === "bool" && part instanceof Uint8Array)
    return Array.from(part, (bit) => (bit === 0 ? "false" : "true")).join(",");
  const text = part.join(",");
  // "NaN" and "Infinity" are the only outputs of join with these letters.
  return info.family === "float" && /[NI]/.test(text) ? text.replaceAll(/-?Infinity|NaN/g, '"$&"') : text;
}
