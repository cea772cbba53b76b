// Owns docs/settings.md: every option of every process as its definition says it, and every value of the chart as its schema
// and the comments of values.yaml say it. Pure.
import { isMap, isScalar, type Node, type Pair, parseDocument, type YAMLMap } from "yaml";
import type { Flag } from "#platform/config.ts";

export interface Process {
  readonly name: string;
  readonly says: string;
  readonly flags: readonly Flag[];
}

export function describeProcesses(processes: readonly Process[]): string {
  return processes
    .map(({ name, says, flags }) => {
      const rows = flags.map(
        ({ flag, says: what, isRequired, standard }) =>
          `| \`${flag}\` | ${isRequired ? "needed" : standard === undefined ? "" : `\`${standard}\``} | ${cell(what)} |`,
      );
      return [
        `## warmpath ${name}`,
        "",
        says,
        "",
        "| option | default | what it does |",
        "| --- | --- | --- |",
        ...rows,
        "",
      ].join("\n");
    })
    .join("\n");
}

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly pattern?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
}

interface RootSchema extends Schema {
  readonly definitions: Readonly<Record<string, Schema>>;
}

/** `schema`: values.schema.json, `values`: the text of values.yaml. */
export function describeValues(schema: RootSchema, values: string): string {
  const { contents } = parseDocument(values);
  const rows = rowsOf(schema, schema.definitions, contents, []);
  return [
    "## Values of the chart",
    "",
    "| value | takes | default | what it does |",
    "| --- | --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
}

function rowsOf(
  schema: Schema,
  definitions: RootSchema["definitions"],
  node: Node | null,
  path: readonly string[],
  comment = "",
): readonly string[] {
  const { properties, ...leaf } = resolve(schema, definitions);
  if (properties === undefined) return [`| \`${path.join(".")}\` | ${kindOf(leaf)} | ${standardOf(node)} | ${cell(comment)} |`];
  return Object.entries(properties).flatMap(([name, inner], at) => {
    const pair = isMap(node) ? pairOf(node, name) : undefined;
    const own = pair === undefined ? "" : commentOf(node, pair, at === 0);
    const value = pair?.value ?? null;
    // What is said of a group is told at its first value.
    const inherited = at === 0 ? comment : "";
    return rowsOf(inner, definitions, value, [...path, name], [inherited, own].filter((text) => text !== "").join(" "));
  });
}

function resolve(schema: Schema, definitions: RootSchema["definitions"]): Schema {
  return schema.$ref === undefined ? schema : (definitions[schema.$ref.replace("#/definitions/", "")] ?? {});
}

function pairOf(map: YAMLMap, name: string): Pair<unknown, Node | null> | undefined {
  const found = map.items.find(({ key }) => isScalar(key) && key.value === name);
  return found as Pair<unknown, Node | null> | undefined;
}

function commentOf(map: Node | null, { key, value }: Pair<unknown, Node | null>, isFirst: boolean): string {
  const before = isScalar(key) ? key.commentBefore : undefined;
  const first = isFirst ? map?.commentBefore : undefined;
  const beside = isScalar(value) ? value.comment : undefined;
  return [before ?? first, beside].flatMap((text) => (text ? [text.replaceAll(/\s*\n\s*/g, " ").trim()] : [])).join(" ");
}

function kindOf({ type, enum: values, minimum, maximum, pattern }: Schema): string {
  if (values !== undefined) return values.map((value) => (value === "" ? "nothing" : `\`${String(value)}\``)).join(", ");
  const kinds: Readonly<Record<string, string>> = {
    integer: "whole number",
    number: "number",
    boolean: "true or false",
    string: "text",
    array: "list",
    object: "object",
  };
  const kind = kinds[type ?? ""] ?? "anything";
  if (minimum !== undefined && maximum !== undefined) return `${kind}, ${minimum} to ${maximum}`;
  return pattern === undefined ? kind : `${kind}: \`${pattern.replaceAll("|", "\\|")}\``;
}

function standardOf(node: Node | null): string {
  if (node === null) return "";
  const value: unknown = isScalar(node) ? node.value : node.toJSON();
  if (value === null) return "";
  return `\`${JSON.stringify(value).replaceAll("|", "\\|")}\``;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll(/\s+/g, " ");
}
