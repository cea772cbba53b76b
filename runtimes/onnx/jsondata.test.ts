import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type DatatypeInfo, datatypes, type Elements, findDatatype } from "./datatypes.ts";
import { buildJsonArray, buildNestedJson, parseJson, parseJsonElements } from "./jsondata.ts";
import { buildRawBytes, parseRawElements } from "./rawdata.ts";
import { Refusal } from "./refusal.ts";

function info(name: string): DatatypeInfo {
  const found = findDatatype(name);
  assert.ok(found);
  return found;
}

/** Elements of any values of a datatype, made from random bytes or texts. */
function arbitrary(type: DatatypeInfo): fc.Arbitrary<Elements> {
  if (type.family === "bytes") return fc.array(fc.string({ unit: "binary" }).map((text) => text.replaceAll("\0", "0")));
  if (type.family === "bool") return fc.array(fc.boolean()).map((bits) => Uint8Array.from(bits, Number));
  return fc
    .uint8Array({ maxLength: 64 })
    .map((bytes) => bytes.slice(0, bytes.length - (bytes.length % type.elementBytes)))
    .map((bytes) => type.view(Uint8Array.from(bytes).buffer));
}

for (const type of datatypes) {
  test(`${type.name} keeps every value through JSON and through bytes`, () => {
    fc.assert(
      fc.property(arbitrary(type), (elements) => {
        const text = buildJsonArray(type, elements);
        const parsed = parseJson(`{"data":${text}}`)?.value as { data: unknown };
        const back = parseJsonElements(type, [elements.length], elements.length, parsed.data, "x");
        // JSON.stringify and join write -0 as 0, which Object.is tells apart and a model does not.
        assert.deepEqual(plain(back), plain(elements));
        assert.deepStrictEqual(parseRawElements(type, elements.length, buildRawBytes(elements), "x"), elements);
      }),
      { numRuns: 200 },
    );
  });
}

function plain(elements: Elements | Refusal): unknown {
  assert.ok(!(elements instanceof Refusal), elements instanceof Refusal ? elements.message : "");
  return Array.from(elements as ArrayLike<unknown>, (value) => (value === 0 ? 0 : value));
}

test("nested and flat data are the same tensor", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 4 }), (shape) => {
      const count = shape.reduce((a, b) => a * b, 1);
      const elements = Int32Array.from({ length: count }, (_, at) => at);
      const nested: unknown = JSON.parse(buildNestedJson(info("INT32"), elements, shape));
      assert.deepEqual(parseJsonElements(info("INT32"), shape, count, nested, "x"), elements);
      assert.deepEqual((nested as unknown[]).flat(9), [...elements]);
    }),
  );
});

test("64-bit integers keep their digits wherever they stand", () => {
  for (const digits of ["9223372036854775807", "-9223372036854775808", "9007199254740993", "18446744073709551615"]) {
    for (const text of [`[${digits}]`, `[[${digits}]]`, `[1,${digits},2]`, `[ ${digits} ]`, `[\n\t${digits}\r\n]`]) {
      const parsed = parseJson(`{"data":${text}}`)?.value as { data: unknown[] };
      assert.ok(parsed.data.flat().includes(BigInt(digits)), text);
    }
  }
});

const refused: readonly [string, string, readonly number[], string, RegExp][] = [
  ["no array", "INT32", [1], `1`, /must be an array/],
  ["too few", "INT32", [2], `[1]`, /has 1 elements/],
  ["too many", "INT32", [1], `[1,2]`, /has 2 elements/],
  ["ragged", "INT32", [2, 2], `[[1,2],[3]]`, /nested data/],
  ["nested deeper than the shape", "INT32", [2], `[[1],[2]]`, /INT32/],
  ["nested in another shape", "INT32", [4], `[[1,2],[3,4]]`, /nested data/],
  ["a fraction", "INT32", [1], `[1.5]`, /1\.5 is not/],
  ["a text for a number", "INT32", [1], `["1"]`, /INT32/],
  ["null", "FP32", [1], `[null]`, /null is not/],
  ["an object", "INT64", [1], `[{"a":12345678901234567890}]`, /an object is not/],
  ["a byte of 256", "UINT8", [1], `[256]`, /range of UINT8/],
  ["a negative", "UINT32", [1], `[-1]`, /range of UINT32/],
  ["beyond INT64", "INT64", [1], `[9223372036854775808]`, /range of INT64/],
  ["beyond UINT64", "UINT64", [1], `[18446744073709551616]`, /range of UINT64/],
  ["far beyond INT64", "INT64", [1], `[1e300]`, /range of INT64/],
  ["beyond FP16", "FP16", [1], `[65520]`, /range of FP16/],
  ["beyond FP32", "FP32", [1], `[3.5e38]`, /range of FP32/],
  ["beyond FP64", "FP64", [1], `[1e400]`, /range of FP64/],
  ["a word", "FP32", [1], `["nan"]`, /FP32/],
  ["2 for a bool", "BOOL", [1], `[2]`, /BOOL/],
  ["a number for a text", "BYTES", [1], `[1]`, /BYTES/],
  ["half a surrogate pair", "BYTES", [1], `["\\ud800"]`, /well-formed/],
  ["a NUL", "BYTES", [1], `["a\\u0000b"]`, /NUL/],
];

for (const [name, datatype, shape, text, message] of refused) {
  test(`refuses ${name}`, () => {
    const data = parseJson(text)?.value;
    const count = shape.reduce((a, b) => a * b, 1);
    const result = parseJsonElements(info(datatype), shape, count, data, "x");
    assert.ok(result instanceof Refusal);
    assert.equal(result.kind, "bad-request");
    assert.match(result.message, message);
  });
}

test("takes the largest float as people print it", () => {
  assert.deepEqual(parseJsonElements(info("FP32"), [1], 1, [3.4028235e38], "x"), Float32Array.of(3.4028234663852886e38));
});

test("JSON nested without end is refused, not a fault", () => {
  const deep = `${"[".repeat(100_000)}12345678901234567${"]".repeat(100_000)}`;
  assert.doesNotThrow(() => parseJson(deep));
  assert.equal(parseJson("{"), undefined);
});

const refusedBytes: readonly [string, string, number, number[]][] = [
  ["too few bytes", "FP32", 1, [0, 0, 0]],
  ["too many bytes", "INT8", 1, [0, 0]],
  ["a length beyond the end", "BYTES", 1, [5, 0, 0, 0, 65]],
  ["half a length", "BYTES", 1, [1, 0]],
  ["fewer texts", "BYTES", 2, [1, 0, 0, 0, 65]],
  ["more texts", "BYTES", 1, [1, 0, 0, 0, 65, 1, 0, 0, 0, 65]],
  ["no UTF-8", "BYTES", 1, [1, 0, 0, 0, 255]],
];

for (const [name, datatype, count, bytes] of refusedBytes) {
  test(`refuses raw contents with ${name}`, () => {
    assert.ok(parseRawElements(info(datatype), count, Uint8Array.from(bytes), "x") instanceof Refusal);
  });
}
