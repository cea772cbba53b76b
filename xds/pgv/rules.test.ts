// Each rule kind by itself, on rules written here: Envoy's messages do not use all of them (see checker.test.ts).
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { AnySchema, DurationSchema, NullValueSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { FieldRulesSchema, KnownRegex } from "#proto/gen/validate/validate_pb.ts";
import { compileValueRules } from "./rules.ts";

type Rules = NonNullable<MessageInitShape<typeof FieldRulesSchema>["type"]>;

const nowMs = (): number => 1_000_000;
const at = (seconds: number): ReturnType<typeof create<typeof TimestampSchema>> =>
  create(TimestampSchema, { seconds: BigInt(seconds) });
const lasting = (seconds: number): ReturnType<typeof create<typeof DurationSchema>> =>
  create(DurationSchema, { seconds: BigInt(seconds) });
const bytes = (...values: number[]): Uint8Array => new Uint8Array(values);
const any = (typeUrl: string): ReturnType<typeof create<typeof AnySchema>> => create(AnySchema, { typeUrl });

function broken(type: Rules, value: unknown): string[] {
  const rules: string[] = [];
  compileValueRules(create(FieldRulesSchema, { type }), NullValueSchema, nowMs)?.(value, ({ rule }) => rules.push(rule));
  return rules;
}

/** Rules, values that keep them, values that break them and the rule that is named. */
const cases: readonly (readonly [string, Rules, readonly unknown[], readonly unknown[], string])[] = [
  ["number const", { case: "uint32", value: { const: 3 } }, [3], [2, 0], "uint32.const"],
  ["number limit", { case: "int32", value: { lt: 3 } }, [2, -9], [3, 4], "int32.lt"],
  ["number limit", { case: "sint64", value: { lte: 3n } }, [3n], [4n], "sint64.lte"],
  ["number limit", { case: "double", value: { gt: 0 } }, [0.1], [0, -1], "double.gt"],
  ["number limit", { case: "uint64", value: { gte: 5n } }, [5n], [4n, 0n], "uint64.gte"],
  ["number range", { case: "float", value: { gte: 0, lt: 1 } }, [0, 0.5], [1], "float.lt"],
  ["number range turned over", { case: "fixed32", value: { lt: 3, gt: 7 } }, [2, 8], [3, 5, 7], "fixed32.gt|lt"],
  ["number list", { case: "fixed64", value: { in: [1n, 2n] } }, [1n, 2n], [0n], "fixed64.in"],
  ["number list", { case: "sfixed32", value: { notIn: [1, 2] } }, [0], [1], "sfixed32.not_in"],
  ["number ignored when empty", { case: "sfixed64", value: { gt: 3n, ignoreEmpty: true } }, [0n, 4n], [1n], "sfixed64.gt"],
  ["wrapped number", { case: "uint32", value: { gt: 3 } }, [{ value: 4 }], [{ value: 3 }], "uint32.gt"],
  ["bool", { case: "bool", value: { const: true } }, [true], [false], "bool.const"],
  ["string const", { case: "string", value: { const: "a" } }, ["a"], ["", "b"], "string.const"],
  ["string len counts characters", { case: "string", value: { len: 2n } }, ["é😀"], ["é", "abc"], "string.len"],
  ["string min_len", { case: "string", value: { minLen: 1n } }, ["a"], [""], "string.min_len"],
  ["string max_len", { case: "string", value: { maxLen: 1n } }, ["", "😀"], ["ab"], "string.max_len"],
  ["string len_bytes", { case: "string", value: { lenBytes: 2n } }, ["é"], ["a"], "string.len_bytes"],
  ["string min_bytes", { case: "string", value: { minBytes: 2n } }, ["é"], ["a"], "string.min_bytes"],
  ["string max_bytes", { case: "string", value: { maxBytes: 2n } }, ["é"], ["éa"], "string.max_bytes"],
  ["string pattern", { case: "string", value: { pattern: "^a+$" } }, ["aa"], ["", "ab"], "string.pattern"],
  ["string prefix", { case: "string", value: { prefix: "%" } }, ["%a"], ["a%"], "string.prefix"],
  ["string suffix", { case: "string", value: { suffix: "%" } }, ["a%"], ["%a"], "string.suffix"],
  ["string contains", { case: "string", value: { contains: "b" } }, ["abc"], ["ac"], "string.contains"],
  ["string not_contains", { case: "string", value: { notContains: "b" } }, ["ac"], ["abc"], "string.not_contains"],
  ["string list", { case: "string", value: { in: ["a", "b"] } }, ["a"], ["c"], "string.in"],
  ["string list", { case: "string", value: { notIn: ["a"] } }, ["b"], ["a"], "string.not_in"],
  [
    "string ignored when empty",
    { case: "string", value: { minLen: 3n, ignoreEmpty: true } },
    ["", "abc"],
    ["a"],
    "string.min_len",
  ],
  ["email", known("email"), ["a.b@c.de"], ["", "a", "a@", "@b", "a b@c"], "string.email"],
  ["hostname", known("hostname"), ["a.b-c.de", "a."], ["-a", "a..b", "a_b", "a".repeat(64)], "string.hostname"],
  ["ip", known("ip"), ["1.2.3.4", "::1"], ["1.2.3", "a"], "string.ip"],
  ["ipv4", known("ipv4"), ["1.2.3.4"], ["::1"], "string.ipv4"],
  ["ipv6", known("ipv6"), ["::1"], ["1.2.3.4"], "string.ipv6"],
  ["uri", known("uri"), ["http://a/b"], ["/b"], "string.uri"],
  ["uri_ref", known("uriRef"), ["/b", "http://a"], ["http://["], "string.uri_ref"],
  ["address", known("address"), ["::1", "a.b"], ["a b"], "string.address"],
  ["uuid", known("uuid"), ["01234567-89ab-cdef-0123-456789ABCDEF"], ["01234567"], "string.uuid"],
  ["strict header name", header("HTTP_HEADER_NAME", true), [":path", "x-a"], ["", "a b", "a\n"], "string.well_known_regex"],
  ["loose header name may be empty", header("HTTP_HEADER_NAME", false), ["", "a b"], ["a\n", "\0"], "string.well_known_regex"],
  ["strict header value", header("HTTP_HEADER_VALUE", true), ["", "a\tb é"], ["a\n", "\u007f"], "string.well_known_regex"],
  ["loose header value", header("HTTP_HEADER_VALUE", false), ["\u0001"], ["a\r"], "string.well_known_regex"],
  ["bytes const", { case: "bytes", value: { const: bytes(1) } }, [bytes(1)], [bytes(), bytes(2)], "bytes.const"],
  ["bytes len", { case: "bytes", value: { len: 1n } }, [bytes(1)], [bytes()], "bytes.len"],
  ["bytes min_len", { case: "bytes", value: { minLen: 1n } }, [bytes(1)], [bytes()], "bytes.min_len"],
  ["bytes max_len", { case: "bytes", value: { maxLen: 1n } }, [bytes(1)], [bytes(1, 2)], "bytes.max_len"],
  ["bytes pattern", { case: "bytes", value: { pattern: "^a$" } }, [bytes(97)], [bytes(98)], "bytes.pattern"],
  ["bytes prefix", { case: "bytes", value: { prefix: bytes(1) } }, [bytes(1, 2)], [bytes(2, 1)], "bytes.prefix"],
  ["bytes suffix", { case: "bytes", value: { suffix: bytes(1) } }, [bytes(2, 1)], [bytes(1, 2)], "bytes.suffix"],
  [
    "bytes contains",
    { case: "bytes", value: { contains: bytes(0x12) } },
    [bytes(1, 0x12)],
    [bytes(0x11, 0x21)],
    "bytes.contains",
  ],
  ["bytes list", { case: "bytes", value: { in: [bytes(1)] } }, [bytes(1)], [bytes(2)], "bytes.in"],
  ["bytes list", { case: "bytes", value: { notIn: [bytes(1)] } }, [bytes(2)], [bytes(1)], "bytes.not_in"],
  ["bytes ip", { case: "bytes", value: { wellKnown: { case: "ip", value: true } } }, [bytes(1, 2, 3, 4)], [bytes(1)], "bytes.ip"],
  [
    "bytes ignored when empty",
    { case: "bytes", value: { minLen: 2n, ignoreEmpty: true } },
    [bytes()],
    [bytes(1)],
    "bytes.min_len",
  ],
  ["enum const", { case: "enum", value: { const: 1 } }, [1], [0], "enum.const"],
  ["enum defined_only", { case: "enum", value: { definedOnly: true } }, [0], [7], "enum.defined_only"],
  ["enum list", { case: "enum", value: { in: [1] } }, [1], [0], "enum.in"],
  ["enum list", { case: "enum", value: { notIn: [0] } }, [1], [0], "enum.not_in"],
  ["any list", { case: "any", value: { in: ["t/a"] } }, [any("t/a")], [any("t/b")], "any.in"],
  ["any list", { case: "any", value: { notIn: ["t/a"] } }, [any("t/b")], [any("t/a")], "any.not_in"],
  ["duration const", { case: "duration", value: { const: lasting(1) } }, [lasting(1)], [lasting(2)], "duration.const"],
  ["duration limit", { case: "duration", value: { gt: {} } }, [lasting(1)], [lasting(0), lasting(-1)], "duration.gt"],
  [
    "duration range",
    { case: "duration", value: { gte: lasting(1), lte: lasting(2) } },
    [lasting(1), lasting(2)],
    [lasting(3)],
    "duration.lte",
  ],
  ["duration list", { case: "duration", value: { in: [lasting(1)] } }, [lasting(1)], [lasting(2)], "duration.in"],
  ["duration list", { case: "duration", value: { notIn: [lasting(1)] } }, [lasting(2)], [lasting(1)], "duration.not_in"],
  ["timestamp const", { case: "timestamp", value: { const: at(1) } }, [at(1)], [at(2)], "timestamp.const"],
  ["timestamp limit", { case: "timestamp", value: { lt: at(5) } }, [at(4)], [at(5)], "timestamp.lt"],
  ["timestamp past", { case: "timestamp", value: { ltNow: true } }, [at(999)], [at(1_001)], "timestamp.lt_now"],
  ["timestamp future", { case: "timestamp", value: { gtNow: true } }, [at(1_001)], [at(999)], "timestamp.gt_now"],
  [
    "timestamp within",
    { case: "timestamp", value: { within: lasting(5) } },
    [at(996), at(1_004)],
    [at(994), at(1_006)],
    "timestamp.within",
  ],
];

function known(name: "email" | "hostname" | "ip" | "ipv4" | "ipv6" | "uri" | "uriRef" | "address" | "uuid"): Rules {
  return { case: "string", value: { wellKnown: { case: name, value: true } } };
}

function header(name: "HTTP_HEADER_NAME" | "HTTP_HEADER_VALUE", strict: boolean): Rules {
  return { case: "string", value: { wellKnown: { case: "wellKnownRegex", value: KnownRegex[name] }, strict } };
}

for (const [title, rules, good, bad, rule] of cases) {
  test(`${title}: ${rule}`, () => {
    for (const value of good) assert.deepEqual(broken(rules, value), []);
    for (const value of bad) assert.deepEqual(broken(rules, value), [rule], String(value));
  });
}

test("no rule, no check", () => {
  assert.equal(compileValueRules(create(FieldRulesSchema), undefined, nowMs), undefined);
  assert.equal(compileValueRules(create(FieldRulesSchema, { type: { case: "string", value: {} } }), undefined, nowMs), undefined);
});
