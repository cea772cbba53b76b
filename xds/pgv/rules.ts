// Owns what one PGV rule set says of one value: numbers, text, bytes, enums, times, the type of an Any.
// Messages, lists and maps are walked by checker.ts. Rules: the comments of validate.proto.
import type { DescEnum } from "@bufbuild/protobuf";
import type { Any, Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type {
  AnyRules,
  BytesRules,
  DurationRules,
  EnumRules,
  FieldRules,
  StringRules,
  TimestampRules,
} from "#proto/gen/validate/validate_pb.ts";
import { wellKnownText } from "./text.ts";

/** What a value breaks: the rule as in the proto file (`string.min_len`), and a text for people. */
export interface Fault {
  readonly rule: string;
  readonly text: string;
}

export type ValueCheck = (value: unknown, report: (fault: Fault) => void) => void;

/** One rule of a set: its name, what it asks for, whether a value keeps it. */
interface Test<Value> {
  readonly rule: string;
  readonly wants: string;
  readonly holds: (value: Value) => boolean;
}

/** The values as protobuf-es has them; a wrapper inside a list, a map or a oneof is a message with a value. */
const kinds = {
  number: (value: unknown): value is number | bigint => typeof value === "number" || typeof value === "bigint",
  text: (value: unknown): value is string => typeof value === "string",
  bytes: (value: unknown): value is Uint8Array => value instanceof Uint8Array,
  flag: (value: unknown): value is boolean => typeof value === "boolean",
  time: (value: unknown): value is Duration | Timestamp => typeof value === "object" && value !== null && "nanos" in value,
  any: (value: unknown): value is Any => typeof value === "object" && value !== null && "typeUrl" in value,
};

/** Undefined when the rules say nothing of single values. `nowMs` is asked only by rules that speak of the present. */
export function compileValueRules(rules: FieldRules, values: DescEnum | undefined, nowMs: () => number): ValueCheck | undefined {
  const { type } = rules;
  switch (type.case) {
    case undefined:
    case "repeated":
    case "map":
      break;
    case "bool":
      return compile("bool", kinds.flag, constTests(given(type.value, "const"), itself, String));
    case "string":
      return compile("string", kinds.text, stringTests(type.value), type.value.ignoreEmpty ? (text) => text === "" : undefined);
    case "bytes":
      return compile(
        "bytes",
        kinds.bytes,
        bytesTests(type.value),
        type.value.ignoreEmpty ? (bytes) => bytes.length === 0 : undefined,
      );
    case "enum":
      return compile("enum", kinds.number, enumTests(type.value, values));
    case "any":
      return compile("any", kinds.any, anyTests(type.value));
    case "duration":
      return compile("duration", kinds.time, timeTests(type.value));
    case "timestamp":
      return compile("timestamp", kinds.time, [...timeTests(type.value), ...presentTests(type.value, nowMs)]);
    case "float":
    case "double":
    case "int32":
    case "int64":
    case "uint32":
    case "uint64":
    case "sint32":
    case "sint64":
    case "fixed32":
    case "fixed64":
    case "sfixed32":
    case "sfixed64": {
      // Twelve kinds of numbers: JavaScript compares number and bigint alike.
      const zero = type.value.ignoreEmpty ? (value: number | bigint): boolean => Number(value) === 0 : undefined;
      return compile(type.case, kinds.number, numberTests(type.value), zero);
    }
  }
  return undefined;
}

/** A rule that is set: proto2 fields that are not are found on the prototype, with their default. */
export function given<Rules extends object, Key extends keyof Rules>(rules: Rules, key: Key): Rules[Key] | undefined {
  return Object.hasOwn(rules, key) ? rules[key] : undefined;
}

function compile<Value>(
  family: string,
  isKind: (value: unknown) => value is Value,
  tests: readonly Test<Value>[],
  ignores?: (value: Value) => boolean,
): ValueCheck | undefined {
  if (tests.length === 0) return undefined;
  return (raw, report) => {
    const value = isKind(raw) ? raw : unwrap(raw);
    if (!isKind(value) || ignores?.(value) === true) return;
    for (const { rule, wants, holds } of tests) if (!holds(value)) report({ rule: `${family}.${rule}`, text: `must ${wants}` });
  };
}

function unwrap(value: unknown): unknown {
  return typeof value === "object" && value !== null && "value" in value ? value.value : value;
}

interface Limits<Value> {
  const?: Value;
  lt?: Value;
  lte?: Value;
  gt?: Value;
  gte?: Value;
}

/** Lower and upper limit together are a range; the wrong way round they are what lies outside of it. */
function limitTests<Value>(
  limits: Limits<Value>,
  key: (value: Value) => number | bigint,
  show: (value: Value) => string,
): Test<Value>[] {
  const upper = limits.lt ?? limits.lte;
  const lower = limits.gt ?? limits.gte;
  const tests = constTests(limits.const, key, show);
  const below =
    upper === undefined
      ? undefined
      : limits.lt === undefined
        ? (value: Value) => key(value) <= key(upper)
        : (value: Value) => key(value) < key(upper);
  const above =
    lower === undefined
      ? undefined
      : limits.gt === undefined
        ? (value: Value) => key(value) >= key(lower)
        : (value: Value) => key(value) > key(lower);
  const upperRule = {
    rule: limits.lt === undefined ? "lte" : "lt",
    wants: `be ${limits.lt === undefined ? "at most" : "less than"} ${upper === undefined ? "" : show(upper)}`,
  };
  const lowerRule = {
    rule: limits.gt === undefined ? "gte" : "gt",
    wants: `be ${limits.gt === undefined ? "at least" : "more than"} ${lower === undefined ? "" : show(lower)}`,
  };
  if (below !== undefined && above !== undefined && upper !== undefined && lower !== undefined && key(upper) < key(lower)) {
    tests.push({
      rule: `${lowerRule.rule}|${upperRule.rule}`,
      wants: `${lowerRule.wants} or ${upperRule.wants}`,
      holds: (value) => below(value) || above(value),
    });
    return tests;
  }
  if (below !== undefined) tests.push({ ...upperRule, holds: below });
  if (above !== undefined) tests.push({ ...lowerRule, holds: above });
  return tests;
}

function constTests<Value>(
  only: Value | undefined,
  key: (value: Value) => unknown,
  show: (value: Value) => string,
): Test<Value>[] {
  if (only === undefined) return [];
  return [{ rule: "const", wants: `be ${show(only)}`, holds: (value) => key(value) === key(only) }];
}

function listTests<Value>(
  rules: { readonly in: readonly Value[]; readonly notIn: readonly Value[] },
  key: (value: Value) => unknown,
  show: (value: Value) => string,
): Test<Value>[] {
  const tests: Test<Value>[] = [];
  const allowed = new Set(rules.in.map(key));
  const banned = new Set(rules.notIn.map(key));
  if (allowed.size > 0)
    tests.push({ rule: "in", wants: `be one of ${rules.in.map(show).join(", ")}`, holds: (value) => allowed.has(key(value)) });
  if (banned.size > 0)
    tests.push({
      rule: "not_in",
      wants: `be none of ${rules.notIn.map(show).join(", ")}`,
      holds: (value) => !banned.has(key(value)),
    });
  return tests;
}

function limitsOf<Value>(rules: { const?: Value; lt?: Value; lte?: Value; gt?: Value; gte?: Value }): Limits<Value> {
  const limits: Limits<Value> = {};
  for (const name of ["const", "lt", "lte", "gt", "gte"] as const) {
    const value = given(rules, name);
    if (value !== undefined) limits[name] = value;
  }
  return limits;
}

interface NumberRules extends Limits<number | bigint> {
  readonly in: readonly (number | bigint)[];
  readonly notIn: readonly (number | bigint)[];
}

function numberTests(rules: NumberRules): Test<number | bigint>[] {
  return [...limitTests(limitsOf(rules), itself, String), ...listTests(rules, itself, String)];
}

function enumTests(rules: EnumRules, values: DescEnum | undefined): Test<number | bigint>[] {
  const tests = [
    ...constTests<number | bigint>(given(rules, "const"), Number, String),
    ...listTests<number | bigint>(rules, Number, String),
  ];
  if (rules.definedOnly && values !== undefined) {
    const defined = new Set(values.values.map(({ number }) => number));
    tests.push({ rule: "defined_only", wants: `be a value of ${values.typeName}`, holds: (value) => defined.has(Number(value)) });
  }
  return tests;
}

const itself = <Value>(value: Value): Value => value;
const runes = (text: string): number => Array.from(text).length;
const utf8 = (text: string): number => Buffer.byteLength(text);

function stringTests(rules: StringRules): Test<string>[] {
  const tests: Test<string>[] = [
    ...constTests(given(rules, "const"), itself, JSON.stringify),
    ...sizeTests<string>(
      { len: given(rules, "len"), min_len: given(rules, "minLen"), max_len: given(rules, "maxLen") },
      runes,
      "characters",
    ),
    ...sizeTests<string>(
      { len_bytes: given(rules, "lenBytes"), min_bytes: given(rules, "minBytes"), max_bytes: given(rules, "maxBytes") },
      utf8,
      "bytes",
    ),
    ...listTests(rules, itself, JSON.stringify),
  ];
  const { prefix, suffix, contains } = rules;
  if (given(rules, "pattern") !== undefined) tests.push(patternTest(rules.pattern));
  if (prefix !== "") tests.push({ rule: "prefix", wants: `start with ${prefix}`, holds: (text) => text.startsWith(prefix) });
  if (suffix !== "") tests.push({ rule: "suffix", wants: `end with ${suffix}`, holds: (text) => text.endsWith(suffix) });
  if (contains !== "") tests.push({ rule: "contains", wants: `contain ${contains}`, holds: (text) => text.includes(contains) });
  if (given(rules, "notContains") !== undefined)
    tests.push({
      rule: "not_contains",
      wants: `not contain ${rules.notContains}`,
      holds: (text) => !text.includes(rules.notContains),
    });
  const holds = wellKnownText(rules);
  if (holds !== undefined)
    tests.push({ rule: snake(rules.wellKnown.case ?? ""), wants: `be a valid ${rules.wellKnown.case}`, holds });
  return tests;
}

function patternTest(pattern: string): Test<string> {
  const regex = new RegExp(pattern, "u");
  return { rule: "pattern", wants: `match ${pattern}`, holds: (text) => regex.test(text) };
}

type Sizes = Readonly<Record<string, bigint | undefined>>;

/** Rules named len*, min_* and max_* on a size. */
function sizeTests<Value>(sizes: Sizes, sizeOf: (value: Value) => number, unit: string): Test<Value>[] {
  return Object.entries(sizes).flatMap(([rule, limit]): Test<Value>[] => {
    if (limit === undefined) return [];
    if (rule.startsWith("min"))
      return [{ rule, wants: `have at least ${limit} ${unit}`, holds: (value) => sizeOf(value) >= limit }];
    if (rule.startsWith("max"))
      return [{ rule, wants: `have at most ${limit} ${unit}`, holds: (value) => sizeOf(value) <= limit }];
    return [{ rule, wants: `have ${limit} ${unit}`, holds: (value) => BigInt(sizeOf(value)) === limit }];
  });
}

function bytesTests(rules: BytesRules): Test<Uint8Array>[] {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  const sizes: Sizes = { len: given(rules, "len"), min_len: given(rules, "minLen"), max_len: given(rules, "maxLen") };
  const tests = [...sizeTests<Uint8Array>(sizes, (bytes) => bytes.length, "bytes"), ...listTests(rules, hex, hex)];
  const add = (
    rule: "const" | "prefix" | "suffix" | "contains",
    wants: string,
    holds: (hexText: string, part: string) => boolean,
  ): void => {
    const part = given(rules, rule);
    if (part !== undefined)
      tests.push({ rule, wants: `${wants} 0x${hex(part)}`, holds: (bytes) => holds(hex(bytes), hex(part)) });
  };
  add("const", "be", (text, part) => text === part);
  add("prefix", "start with", (text, part) => text.startsWith(part));
  add("suffix", "end with", (text, part) => text.endsWith(part));
  if (given(rules, "contains") !== undefined)
    tests.push({
      rule: "contains",
      wants: `contain 0x${hex(rules.contains)}`,
      holds: (bytes) => Buffer.from(bytes).includes(rules.contains),
    });
  if (given(rules, "pattern") !== undefined) {
    const { holds, ...test } = patternTest(rules.pattern);
    tests.push({ ...test, holds: (bytes) => holds(Buffer.from(bytes).toString()) });
  }
  const { wellKnown } = rules;
  if (wellKnown.case !== undefined && wellKnown.value) {
    const lengths = { ip: [4, 16], ipv4: [4], ipv6: [16] }[wellKnown.case];
    tests.push({
      rule: wellKnown.case,
      wants: `be the bytes of an ${wellKnown.case}`,
      holds: (bytes) => lengths.includes(bytes.length),
    });
  }
  return tests;
}

function anyTests(rules: AnyRules): Test<Any>[] {
  const types = listTests<string>(rules, itself, String);
  return types.map(({ holds, ...test }) => ({ ...test, holds: ({ typeUrl }: Any) => holds(typeUrl) }));
}

type Time = Pick<Duration, "seconds" | "nanos">;

const nanosOf = ({ seconds, nanos }: Time): bigint => seconds * 1_000_000_000n + BigInt(nanos);
const showTime = (time: Time): string => `${Number(nanosOf(time)) / 1e9}s`;

function timeTests(rules: DurationRules | TimestampRules): Test<Time>[] {
  const lists = "in" in rules ? listTests<Time>(rules, nanosOf, showTime) : [];
  const limits: Limits<Time> = {};
  for (const name of ["const", "lt", "lte", "gt", "gte"] as const) {
    const value = rules[name];
    if (value !== undefined) limits[name] = value;
  }
  return [...limitTests(limits, nanosOf, showTime), ...lists];
}

function presentTests(rules: TimestampRules, nowMs: () => number): Test<Time>[] {
  const now = (): bigint => BigInt(Math.round(nowMs())) * 1_000_000n;
  const tests: Test<Time>[] = [];
  if (rules.ltNow) tests.push({ rule: "lt_now", wants: "be in the past", holds: (time) => nanosOf(time) < now() });
  if (rules.gtNow) tests.push({ rule: "gt_now", wants: "be in the future", holds: (time) => nanosOf(time) > now() });
  if (rules.within !== undefined) {
    const within = nanosOf(rules.within);
    const apart = (time: Time): bigint => nanosOf(time) - now();
    tests.push({
      rule: "within",
      wants: "be close to the present",
      holds: (time) => apart(time) <= within && apart(time) >= -within,
    });
  }
  return tests;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
