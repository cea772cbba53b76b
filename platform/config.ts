// Owns how options become values: parsed once by a schema, frozen, and refused in one line that names each bad option.
import { parseArgs } from "node:util";
import { z } from "zod";
import { UsageError } from "./lifecycle.ts";

/** Parses `input` or throws a UsageError such as `bad options: --port must be at most 65535`. */
export function parseOptions<Schema extends z.ZodType>(
  schema: Schema,
  input: unknown,
  what = "bad options",
): Readonly<z.output<Schema>> {
  const parsed = schema.safeParse(input, { error: sayIssue });
  if (parsed.success) return deepFreeze(parsed.data);
  const reasons = parsed.error.issues.slice(0, 5).map((issue) => `${optionName(issue.path)}${lowerFirst(issue.message)}`);
  const more = parsed.error.issues.length - reasons.length;
  throw new UsageError(`${what}: ${reasons.join("; ")}${more > 0 ? `; and ${more} more` : ""}`);
}

/** What is said of a value where its schema has no words of its own. */
function sayIssue(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === "invalid_value") return `must be ${orList(issue.values.map(String))}`;
  if (issue.code === "invalid_type" && issue.input === undefined) return "is missing";
  if (issue.code === "invalid_type" && isNumeric(issue.expected)) return "must be a number";
  if (issue.code === "too_small" && issue.origin === "string") return "must not be empty";
  if (issue.code === "too_big" && issue.origin === "string") return `must be at most ${issue.maximum} characters long`;
  if (issue.code === "too_small" && isNumeric(issue.origin))
    return `must be ${issue.inclusive === false ? "more than" : "at least"} ${issue.minimum}`;
  if (issue.code === "too_big" && isNumeric(issue.origin))
    return `must be ${issue.inclusive === false ? "less than" : "at most"} ${issue.maximum}`;
  return undefined;
}

function isNumeric(origin: string): boolean {
  return origin === "number" || origin === "int" || origin === "bigint";
}

function orList(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

/**
 * Parses a command line by a schema: the option `adminPort` is the flag `--admin-port VALUE`, one that takes `true` is a
 * flag without a value. Throws a UsageError, with `usage` behind it if there is one.
 */
export function parseFlags<Schema extends z.ZodObject>(
  schema: Schema,
  argv: readonly string[],
  usage?: string,
): Readonly<z.output<Schema>> {
  const names = new Map(Object.keys(schema.shape).map((name) => [flagOf(name), name]));
  const options = Object.fromEntries(
    Array.from(names, ([flag, name]) => {
      const type = takesTrue(schema.shape[name] ?? z.never()) ? ("boolean" as const) : ("string" as const);
      return [flag, { type }];
    }),
  );
  let values: Readonly<Record<string, unknown>>;
  try {
    values = parseArgs({ args: [...argv], options }).values;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const message = lowerFirst(error.message);
    throw new UsageError(usage === undefined ? message : `${message}\n${usage}`, { cause: error });
  }
  return parseOptions(
    schema,
    Object.fromEntries(Object.entries(values).map(([flag, value]) => [names.get(flag) ?? flag, value])),
  );
}

/** A flag without a value. A coerced number would take `true` as well, but not give it back. */
function takesTrue(field: z.core.$ZodType): boolean {
  const taken = z.safeParse(field, true);
  return taken.success && taken.data === true;
}

function flagOf(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** A TCP port from a number or its decimal text; 0 asks for a free one. */
export const portOption = z
  .union([z.number(), z.string().regex(/^\d{1,6}$/, { error: "must be a port number" })], { error: "must be a port number" })
  .transform(Number)
  .pipe(z.int({ error: "must be a port number" }).min(0).max(65_535, { error: "must be at most 65535" }));

/** The base address of an OTLP collector. */
export const otlpEndpointOption = z.url({ protocol: /^https?$/, error: "must be an address such as http://localhost:4318" });

export const otlpProtocolOption = z.enum(["http", "grpc"], { error: "must be http or grpc" });

export const traceShareOption = z.coerce
  .number({ error: "must be a share from 0 to 1" })
  .min(0, { error: "must be a share from 0 to 1" })
  .max(1, { error: "must be a share from 0 to 1" });

const unitsMs = new Map([
  ["ms", 1],
  ["s", 1_000],
  ["m", 60_000],
  ["h", 3_600_000],
]);

/** Milliseconds from texts such as 250ms, 30s, 1.5m, 2h; a bare number is seconds. */
export const durationMsOption = z.string().transform((text, context) => {
  const found = /^(?<amount>\d+(?:\.\d+)?)(?<unit>ms|s|m|h)?$/.exec(text);
  const unitMs = unitsMs.get(found?.groups?.["unit"] ?? "s");
  if (found === null || unitMs === undefined) {
    context.addIssue({ code: "custom", message: `must be a duration such as 500ms, 30s or 2m, not ${JSON.stringify(text)}` });
    return z.NEVER;
  }
  return Math.round(Number(found.groups?.["amount"]) * unitMs);
});

const unitsBytes = new Map([
  ["", 1],
  ["k", 1e3],
  ["M", 1e6],
  ["G", 1e9],
  ["Ki", 2 ** 10],
  ["Mi", 2 ** 20],
  ["Gi", 2 ** 30],
]);

/** Bytes from texts in Kubernetes' manner: 1048576, 64Mi, 2G. */
export const sizeBytesOption = z.string().transform((text, context) => {
  const found = /^(?<amount>\d+(?:\.\d+)?)(?<unit>[kMG]|[KMG]i)?$/.exec(text);
  const unitBytes = unitsBytes.get(found?.groups?.["unit"] ?? "");
  if (found === null || unitBytes === undefined) {
    context.addIssue({ code: "custom", message: `must be a size such as 512Mi or 2G, not ${JSON.stringify(text)}` });
    return z.NEVER;
  }
  return Math.round(Number(found.groups?.["amount"]) * unitBytes);
});

/** `portOffset` is told as `--port-offset`. */
function optionName(path: readonly PropertyKey[]): string {
  if (path.length === 0) return "";
  const name = path.map(String).join(".");
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} `;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}

export interface Flag {
  /** With its dashes; behind one that takes a value stands what it takes, such as ` <DURATION>`. */
  readonly flag: string;
  readonly says: string;
  readonly isRequired: boolean;
  /** As text, where there is one that can be told. */
  readonly standard: string | undefined;
}

/** The options of a schema, in its order. An option without words is listed all the same. */
export function listFlags(schema: z.ZodObject): readonly Flag[] {
  return Object.entries(schema.shape).map(([name, field]) => {
    const absent = z.safeParse(field, undefined);
    return {
      flag: `--${flagOf(name)}${takesTrue(field) ? "" : ` <${kindOf(field).takes}>`}`,
      says: field instanceof z.ZodType ? (field.description ?? "") : "",
      isRequired: !absent.success,
      standard: absent.success ? writeStandard(field, absent.data) : undefined,
    };
  });
}

interface Kind {
  readonly takes: string;
  /** What one writes to get this value. */
  readonly write: (value: number) => string;
}

const durationKind: Kind = { takes: "DURATION", write: (value) => inUnits(value, unitsMs, "s") };
const sizeKind: Kind = { takes: "SIZE", write: (value) => inUnits(value, unitsBytes, "") };

/** Told from what the option was made of, however much was laid around it. */
function kindOf(field: z.core.$ZodType): Kind {
  const definitions = layersOf(field);
  const isMadeOf = (option: z.ZodType): boolean => definitions.includes(option.def);
  if (isMadeOf(durationMsOption)) return durationKind;
  if (isMadeOf(sizeBytesOption)) return sizeKind;
  if (isMadeOf(portOption)) return { takes: "PORT", write: String };
  return { takes: definitions.some(({ type }) => type === "number") ? "N" : "VALUE", write: String };
}

function layersOf(field: z.core.$ZodType): readonly z.core.$ZodTypeDef[] {
  const { def } = field._zod;
  const inner = "innerType" in def ? def.innerType : "in" in def ? def.in : undefined;
  return inner instanceof z.core.$ZodType ? [def, ...layersOf(inner)] : [def];
}

function writeStandard(field: z.core.$ZodType, value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return typeof value === "number" ? kindOf(field).write(value) : undefined;
}

/** In the largest unit of which it is a whole number. */
function inUnits(value: number, units: ReadonlyMap<string, number>, whenNone: string): string {
  const fitting = Array.from(units).filter(([, size]) => value > 0 && value % size === 0);
  const [unit, size] = fitting.toSorted(([, a], [, b]) => b - a)[0] ?? [whenNone, 1];
  return `${value / size}${unit}`;
}

/** The same as help shows them: what each is for, whether it is needed, and its default, unless the words name it. */
export function describeFlags(schema: z.ZodObject): string {
  const lines = listFlags(schema).map(({ flag, says, isRequired, standard }) => {
    const note = isRequired ? "(required)" : standard === undefined || says.includes("default") ? "" : `(default: ${standard})`;
    return { flag, text: `${says} ${note}`.trim() };
  });
  const width = Math.max(...lines.map(({ flag }) => flag.length));
  return lines.map(({ flag, text }) => `  ${flag.padEnd(width)}  ${text}`.trimEnd()).join("\n");
}
