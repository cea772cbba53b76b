// Owns the form of kept results: what each benchmark found, where and when. Runs of different days may stand in one file, so
// each says for itself what machine it had and of what it was.
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { StartupError } from "#platform/lifecycle.ts";
import type { Figures } from "../benchmark.ts";

const axisSchema = z.object({ label: z.string(), scale: z.enum(["log", "tail"]).optional() });

const plotSchema = z.object({
  title: z.string(),
  x: axisSchema,
  y: axisSchema,
  lines: z
    .array(
      z.object({
        name: z.string(),
        points: z.array(z.tuple([z.number(), z.number()]).readonly()).readonly(),
        isReference: z.boolean().optional(),
      }),
    )
    .readonly(),
});

const figuresSchema: z.ZodType<Figures> = z.lazy(() => z.record(z.string(), z.union([z.number(), figuresSchema])));

/** What a benchmark writes with --into. */
export const outcomeSchema = z.object({ figures: figuresSchema, plots: z.array(plotSchema).readonly() });

export const machineSchema = z.object({
  processor: z.string(),
  processors: z.int(),
  memoryBytes: z.number(),
  system: z.string(),
  /** Of one minute, before the run: what else went on. */
  load: z.number(),
});

const runSchema = outcomeSchema.extend({
  /** What measures it again. */
  command: z.string(),
  /** Its start, ISO 8601. */
  at: z.iso.datetime(),
  seconds: z.number(),
  /** Too small to be quoted. */
  isQuick: z.boolean(),
  machine: machineSchema,
  versions: z.record(z.string(), z.string()),
});

const resultsSchema = z.object({ format: z.literal("warmpath-results-1"), runs: z.record(z.string(), runSchema) });

export type Machine = Readonly<z.infer<typeof machineSchema>>;
export type Run = Readonly<z.infer<typeof runSchema>>;
export type Results = Readonly<z.infer<typeof resultsSchema>>;

export const noResults: Results = { format: "warmpath-results-1", runs: {} };

/** Undefined when the file is not there. */
export async function readResults(file: string): Promise<Results | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  return parseResults(text, file);
}

export function parseResults(text: string, file: string): Results {
  try {
    return resultsSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new StartupError(`${file} does not hold results of benchmarks: remove it, or name another folder with --out`, {
      cause,
    });
  }
}

/** One line for each run, so that a change of one is a change of few lines. */
export function formatResults({ format, runs }: Results): string {
  const lines = Object.entries(runs).map(([name, { plots, ...run }]) => {
    const drawn = plots.map((plot) => `\n    ${JSON.stringify(plot)}`).join(",");
    return `  ${JSON.stringify(name)}: {${JSON.stringify(run).slice(1, -1)}, "plots": [${drawn}]}`;
  });
  return `{"format": ${JSON.stringify(format)}, "runs": {\n${lines.join(",\n")}\n}}\n`;
}

/** What cannot be told in JSON, such as a time of no request, is left out. */
export function finite(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(finite);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]) =>
      typeof inner === "number" && !Number.isFinite(inner) ? [] : [[key, finite(inner)]],
    ),
  );
}
