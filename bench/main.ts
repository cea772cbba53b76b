// Runs one benchmark, `npm run bench -- NAME [--json]`, or all of them for a report.
import { parseArgs } from "node:util";
import { z } from "zod";
import { parseOptions } from "#platform/config.ts";
import { runMain, StartupError, UsageError } from "#platform/lifecycle.ts";
import { type Benchmark, formatFigures } from "./benchmark.ts";
import { benchmarkNames as names } from "./names.ts";
import type { Plot } from "./plot.ts";

const describe = (
  benchmarks: readonly Benchmark[],
): string => `usage: npm run bench -- NAME [--json] [--quick] [--rounds N] [--models N] [--misses N] [--requests N] [--objects N]
       npm run bench -- report [--only NAMES] [--quick] [--out FOLDER] [--keep]

  --json      the last line of the output is one JSON object; all else goes to standard error
  --quick     smaller, for a first look
  --rounds N  rounds, in each of which everything compared has its turn (default: 7)
  --models N  models that are warm in \`hit\` (default: 300)
  --misses N  cold requests of \`miss\` (default: 20000)
  --objects N  InferenceServices of \`controller\` (default: 5000)
  --requests N  requests under each fault of \`faults\`, of all together of \`fleet-faults\` (default: 20000)
  --into FILE  also write figures and plots there, as JSON

report: runs the benchmarks one after another and writes one page with plots, and its data
  --only NAMES  only these, such as hit,miss; the page shows what was kept of the others
  --out FOLDER  where index.html and results.json go (default: .warmpath/report)
  --keep        start from docs/measured.json, keep what is found there, and make README's table from it

${benchmarks.map((benchmark) => `${benchmark.name}: ${benchmark.summary}\n${formatFigures(benchmark)}`).join("\n\n")}
`;

const count = (least: number, most: number): z.ZodType<number, string> =>
  z
    .string()
    .regex(/^\d{1,6}$/, { error: "must be a whole number" })
    .transform(Number)
    .pipe(z.int().min(least).max(most));

const sizes = {
  rounds: count(1, 100).optional(),
  models: count(1, 9_999).optional(),
  misses: count(1_000, 500_000).optional(),
  requests: count(1, 500_000).optional(),
  objects: count(1, 100_000).optional(),
};

const schema = z.object({
  json: z.boolean().default(false),
  help: z.boolean().default(false),
  quick: z.boolean().default(false),
  keep: z.boolean().default(false),
  into: z.string().min(1).optional(),
  out: z.string().min(1).default(".warmpath/report"),
  only: z
    .string()
    .transform((text) => text.split(","))
    .pipe(z.array(z.enum(names, { error: `must be of ${names.join(", ")}` })))
    .default([...names]),
  ...sizes,
});

type Options = Readonly<z.output<typeof schema>>;

const standard = { rounds: 7, models: 300, misses: 20_000, requests: 20_000, objects: 5_000 };
const small = { rounds: 2, models: 50, misses: 1_000, requests: 500, objects: 50 };

await runMain(
  "bench",
  async (signal, stack) => {
    const { values, positionals } = parseCommandLine();
    const options = parseOptions(schema, values);
    const [name, ...more] = positionals;
    if (!options.help) checkNames(name, more);
    if (options.keep && options.quick) throw new UsageError("--keep and --quick do not go together: what is kept is quoted");
    // Loaded only now: what is wrong with the command line is told before.
    const { benchmarks } = await import("./list.ts");
    if (options.help) {
      process.stdout.write(describe(benchmarks));
      return 0;
    }
    const envoyBinary = process.env["WARMPATH_ENVOY"];
    const libraryFolder = process.env["WARMPATH_LIBRARY"];
    const benchmark = benchmarks.find((each) => each.name === name);
    if (envoyBinary === undefined || libraryFolder === undefined) {
      throw new StartupError("Envoy and the model library are not set up: start with `npm run bench`, which does that");
    }
    const say = (line: string): void => void process.stderr.write(`${line}\n`);
    const { runReport, writeOutcome } = await import("./report/run.ts");
    if (benchmark === undefined) {
      const { only, out: outFolder, quick: isQuick, keep } = options;
      const flags = Object.keys(sizes).flatMap((size) =>
        sizeOf(options, size).flatMap(([key, value]) => [`--${key}`, `${value}`]),
      );
      const failed = await runReport({ benchmarks, only, outFolder, flags, isQuick, keep, envoyBinary, say }, signal);
      if (failed.length > 0) say(`failed: ${failed.join(", ")}`);
      return failed.length === 0 ? 0 : 1;
    }
    const plots: Plot[] = [];
    const keep = (plot: Plot): void => void plots.push(plot);
    const chosen = Object.fromEntries(Object.keys(sizes).flatMap((size) => sizeOf(options, size)));
    const context = {
      ...(options.quick ? small : standard),
      ...chosen,
      quick: options.quick,
      envoyBinary,
      libraryFolder,
      say,
      keep,
    };
    const figures = await benchmark.run(context, signal, stack);
    if (options.into !== undefined) await writeOutcome(options.into, { figures, plots });
    const out = options.json ? process.stderr : process.stdout;
    out.write(`\n${benchmark.name}: ${benchmark.summary}\n${formatFigures(benchmark, figures)}\n`);
    if (options.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
    return 0;
  },
  { stopDeadlineMs: 20_000 },
);

function sizeOf(options: Options, name: string): readonly (readonly [string, number])[] {
  const value = Object.entries(options).find(([key]) => key === name)?.[1];
  return typeof value === "number" ? [[name, value]] : [];
}

function checkNames(name: string | undefined, more: readonly string[]): void {
  const isKnown = name === "report" || names.some((each) => each === name);
  if (isKnown && more.length === 0) return;
  const known = `report, ${names.join(", ")}`;
  if (name === undefined) throw new UsageError(`name a benchmark: ${known}. \`npm run bench -- --help\` explains them`);
  throw new UsageError(`there is no benchmark ${[name, ...more].join(" ")}. There is: ${known}`);
}

function parseCommandLine(): { readonly values: unknown; readonly positionals: readonly string[] } {
  const text = ["rounds", "models", "misses", "requests", "objects", "into", "out", "only"];
  const flags = ["json", "quick", "keep"];
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        ...Object.fromEntries(flags.map((name) => [name, { type: "boolean" as const }])),
        ...Object.fromEntries(text.map((name) => [name, { type: "string" as const }])),
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
