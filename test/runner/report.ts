// Owns how results read: one line per file, and below it what its tests tell, and each failure with what the file printed.
import { inspect } from "node:util";
import type { FileRun } from "./file.ts";
import type { Unsteady } from "./second.ts";
import { countResults, summaryOf } from "./tally.ts";

export function describeFile({ file, durationMs, results, output, told }: FileRun): string {
  const counts = countResults(results);
  const lines = [
    `${counts.failed > 0 ? "FAILED" : "ok    "} ${file}: ${summaryOf(counts)} (${(durationMs / 1_000).toFixed(1)} s)`,
  ];
  for (const line of told) lines.push(`  told: ${line}`);
  for (const { kind, name, error } of results) {
    if (kind === "failed") lines.push(`  failed: ${name}`, indent(describeError(error), "    "));
    if (kind === "skipped") lines.push(`  skipped: ${name}`);
  }
  if (counts.failed > 0 && output.trim() !== "") lines.push("  the file printed:", indent(output.trimEnd(), "    | "));
  return `${lines.join("\n")}\n`;
}

/** Names each test that passed only at its second run, so that nobody takes it for a sound one. Empty without any. */
export function describeUnsteady(unsteady: readonly Unsteady[]): string {
  const lines = unsteady.flatMap(({ file, tests }) => tests.map((test) => `  ${file}: ${test}`));
  return lines.length === 0 ? "" : `UNSTEADY, failed beside others and passed alone; to be mended:\n${lines.join("\n")}\n`;
}

/** node:test wraps what was thrown; the wrapper says nothing more. */
function describeError(error: unknown): string {
  const thrown = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (thrown instanceof Error) return thrown.stack ?? thrown.message;
  return typeof thrown === "string" ? thrown : inspect(thrown);
}

function indent(text: string, by: string): string {
  return text
    .split("\n")
    .map((line) => by + line)
    .join("\n");
}
