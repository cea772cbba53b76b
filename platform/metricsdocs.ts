// Owns how definitions of metrics read as a table: the body of docs/metrics.md. Pure.
import type { AnyDefinition, Definitions } from "./metrics.ts";

export function describeMetrics(definitions: Definitions): string {
  const rows = Object.values(definitions).map((definition) => {
    const alias = definition.alias === undefined ? "" : `\`${definition.alias.name}\``;
    return `| \`${definition.name}\` | ${definition.kind} | ${describeLabels(definition)} | ${definition.help} | ${alias} |`;
  });
  return ["| name | kind | labels | meaning | ModelMesh's name |", "| --- | --- | --- | --- | --- |", ...rows, ""].join("\n");
}

/** Long lists of values are elsewhere; short ones are told. */
function describeLabels({ labels }: AnyDefinition): string {
  return Object.entries(labels)
    .map(([label, values]) =>
      values === "open" || values.length > 8
        ? `\`${label}\``
        : `\`${label}\`: ${values.map((value) => `\`${value}\``).join(", ")}`,
    )
    .join("; ");
}
