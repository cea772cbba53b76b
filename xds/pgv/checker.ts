// Owns the check of a message against the PGV rules in its descriptor, as Envoy makes it when it takes a resource.
// Rules are compiled once per message type, on its first use; a valid message costs no allocation for paths.
// It also looks into google.protobuf.Any (typed_config) when the registry knows the type, as Envoy does in the end.
import {
  type DescField,
  type DescMessage,
  type DescOneof,
  fromBinary,
  getOption,
  hasOption,
  type Message,
  type Registry,
} from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { disabled, type FieldRules, rules as fieldRules, ignored, required } from "#proto/gen/validate/validate_pb.ts";
import { compileValueRules, type Fault, given } from "./rules.ts";

export interface Violation extends Fault {
  /** Names as in the proto file: `virtual_hosts[0].domains`, `filter_metadata["x"]`. */
  readonly path: string;
}

export interface PgvChecker {
  /** Empty when the message keeps all rules. */
  check(schema: DescMessage, message: Message): readonly Violation[];
}

export interface PgvOptions {
  /** The types to look into inside of Any; others are not looked into. */
  readonly registry?: Registry;
  /** The present, for rules on timestamps; the system's clock when absent. */
  readonly nowMs?: () => number;
}

type Found = { path: string } & Fault;
type Check = (value: unknown, found: Found[]) => void;

export function createPgvChecker(options: PgvOptions = {}): PgvChecker {
  const compiler = new Compiler(options);
  return {
    check: (schema, message) => {
      const found: Found[] = [];
      compiler.message(schema)(message, found);
      return found;
    },
  };
}

class Compiler {
  readonly #registry: Registry | undefined;
  readonly #nowMs: () => number;
  readonly #messages = new Map<string, Check>();

  constructor(options: PgvOptions) {
    this.#registry = options.registry;
    this.#nowMs = options.nowMs ?? Date.now;
  }

  /** The check of a whole message. Types may contain themselves, so it is compiled when it first runs. */
  message(desc: DescMessage): Check {
    const known = this.#messages.get(desc.typeName);
    if (known !== undefined) return known;
    let checks: readonly Check[] | undefined;
    const check: Check = (value, found) => {
      checks ??= this.#compile(desc);
      for (const part of checks) part(value, found);
    };
    this.#messages.set(desc.typeName, check);
    return check;
  }

  #compile(desc: DescMessage): readonly Check[] {
    if (desc.typeName === AnySchema.typeName) return [(value, found) => this.#any(value, found)];
    if (desc.typeName.startsWith("google.protobuf.") || isExempt(desc)) return [];
    const oneofs = desc.oneofs.filter((oneof) => getOption(oneof, required)).map(requiredOneof);
    return [...oneofs, ...desc.fields.map((field) => this.#field(field)).filter((check) => check !== undefined)];
  }

  #any(value: unknown, found: Found[]): void {
    const typeUrl = fieldOf(value, "typeUrl");
    const bytes = fieldOf(value, "value");
    if (typeof typeUrl !== "string" || !(bytes instanceof Uint8Array)) return;
    const desc = this.#registry?.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
    if (desc === undefined) return;
    let message: Message;
    try {
      message = fromBinary(desc, bytes);
    } catch (error) {
      found.push({
        path: "",
        rule: "any.decode",
        text: `must hold a ${desc.typeName}: ${error instanceof Error ? error.message : String(error)}`,
      });
      return;
    }
    this.message(desc)(message, found);
  }

  /** The check of one field of a message, or undefined when nothing can be wrong with it. */
  #field(field: DescField): Check | undefined {
    const rules = hasOption(field, fieldRules) ? getOption(field, fieldRules) : undefined;
    const inner = this.#fieldValue(field, rules);
    const mustBe = rules !== undefined && isRequired(rules) && field.oneof === undefined;
    if (inner === undefined && !mustBe) return undefined;
    const { name, localName, oneof } = field;
    return (message, found) => {
      const value = oneof === undefined ? fieldOf(message, localName) : memberOf(message, oneof, localName);
      if (value === undefined) {
        if (mustBe) found.push({ path: name, rule: requiredRule(rules), text: "must be set" });
        return;
      }
      under(name, found, () => inner?.(value, found));
    };
  }

  #fieldValue(field: DescField, rules: FieldRules | undefined): Check | undefined {
    if (field.fieldKind === "list") return this.#list(field, rules);
    if (field.fieldKind === "map") return this.#map(field, rules);
    return this.#value(field, rules);
  }

  /** A single value, an item of a list or a value of a map. */
  #value(field: DescField, rules: FieldRules | undefined): Check | undefined {
    const own = rules === undefined ? undefined : compileValueRules(rules, field.enum, this.#nowMs);
    const into =
      field.message === undefined || rules?.message?.skip === true || isInert(field.message)
        ? undefined
        : this.message(field.message);
    if (own === undefined) return into;
    return (value, found) => {
      own(value, (fault) => found.push({ path: "", ...fault }));
      into?.(value, found);
    };
  }

  #list(field: DescField, rules: FieldRules | undefined): Check | undefined {
    const own = rules?.type.case === "repeated" ? rules.type.value : undefined;
    const item = this.#value(field, own?.items);
    if (own === undefined && item === undefined) return undefined;
    const { minItems, maxItems } = sizes(own === undefined ? {} : { min: given(own, "minItems"), max: given(own, "maxItems") });
    return (value, found) => {
      if (!Array.isArray(value) || (value.length === 0 && own?.ignoreEmpty === true)) return;
      const items: readonly unknown[] = value;
      if (items.length < minItems)
        found.push({ path: "", rule: "repeated.min_items", text: `must have at least ${minItems} items` });
      if (items.length > maxItems)
        found.push({ path: "", rule: "repeated.max_items", text: `must have at most ${maxItems} items` });
      if (own?.unique === true && new Set(items.map(identity)).size < items.length) {
        found.push({ path: "", rule: "repeated.unique", text: "must have no item twice" });
      }
      if (item === undefined) return;
      for (const [index, one] of items.entries()) under(`[${index}]`, found, () => item(one, found));
    };
  }

  #map(field: DescField, rules: FieldRules | undefined): Check | undefined {
    const own = rules?.type.case === "map" ? rules.type.value : undefined;
    const item = this.#value(field, own?.values);
    const key = own?.keys === undefined ? undefined : compileValueRules(own.keys, undefined, this.#nowMs);
    if (own === undefined && item === undefined) return undefined;
    const { minItems, maxItems } = sizes(own === undefined ? {} : { min: given(own, "minPairs"), max: given(own, "maxPairs") });
    const asKey = own?.keys?.type.case === "string" ? String : Number;
    return (value, found) => {
      if (typeof value !== "object" || value === null) return;
      const entries: readonly [string, unknown][] = Object.entries(value);
      if (entries.length === 0 && own?.ignoreEmpty === true) return;
      if (entries.length < minItems)
        found.push({ path: "", rule: "map.min_pairs", text: `must have at least ${minItems} entries` });
      if (entries.length > maxItems)
        found.push({ path: "", rule: "map.max_pairs", text: `must have at most ${maxItems} entries` });
      for (const [name, one] of entries) {
        const path = `[${JSON.stringify(name)}]`;
        key?.(asKey(name), (fault) => found.push({ path, ...fault }));
        if (item !== undefined) under(path, found, () => item(one, found));
      }
    };
  }
}

/** Runs a check and puts the step to its value before the paths of what it finds. */
function under(step: string, found: Found[], check: () => void): void {
  const before = found.length;
  check();
  for (let index = before; index < found.length; index += 1) {
    const fault = found[index];
    if (fault === undefined) continue;
    const joint = fault.path === "" || fault.path.startsWith("[") ? "" : ".";
    found[index] = { ...fault, path: `${step}${joint}${fault.path}` };
  }
}

function requiredOneof(oneof: DescOneof): Check {
  return (message, found) => {
    if (fieldOf(fieldOf(message, oneof.localName), "case") !== undefined) return;
    const names = oneof.fields.map(({ name }) => name).join(", ");
    found.push({ path: oneof.name, rule: "oneof.required", text: `must be one of ${names}` });
  };
}

/** A required member of a oneof is asked for only while it is the one chosen, and then it is set. */
function isRequired(rules: FieldRules): boolean {
  if (rules.message?.required === true) return true;
  const { type } = rules;
  return (type.case === "any" || type.case === "duration" || type.case === "timestamp") && type.value.required;
}

function requiredRule(rules: FieldRules): string {
  return rules.message?.required === true ? "message.required" : `${rules.type.case}.required`;
}

function isExempt(desc: DescMessage): boolean {
  return getOption(desc, disabled) || getOption(desc, ignored);
}

/** Types of protobuf itself have no rules, and some are not messages here (Struct is JSON, wrappers are values). */
function isInert(desc: DescMessage): boolean {
  return desc.typeName !== AnySchema.typeName && (desc.typeName.startsWith("google.protobuf.") || isExempt(desc));
}

function sizes(limits: { readonly min?: bigint | undefined; readonly max?: bigint | undefined }): {
  minItems: number;
  maxItems: number;
} {
  return { minItems: Number(limits.min ?? 0n), maxItems: limits.max === undefined ? Infinity : Number(limits.max) };
}

function identity(item: unknown): unknown {
  return item instanceof Uint8Array ? Buffer.from(item).toString("hex") : item;
}

function memberOf(message: unknown, oneof: DescOneof, localName: string): unknown {
  const group = fieldOf(message, oneof.localName);
  return fieldOf(group, "case") === localName ? fieldOf(group, "value") : undefined;
}

/** A field by its name: the descriptor says that it is there, which the type of a message in general does not. */
function fieldOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}
