// Runs one benchmark: `npm run bench -- NAME [--json]`.
import { parseArgs } from "node:util";
import { z } from "zod";
import { parseOptions } from "#platform/config.ts";
import { runMain, StartupError } from "#platform/lifecycle.ts";
import { authBenchmark } from "./auth.ts";
import { type Benchmark, formatFigures } from "./benchmark.ts";
import { controllerBenchmark } from "./controller.ts";
import { densityBenchmark } from "./density.ts";
import { faultsBenchmark } from "./faults.ts";
import { fleetFaultsBenchmark } from "./fleetfaults.ts";
import { hitBenchmark } from "./hit.ts";
import { loadBenchmark } from "./loads.ts";
import { missBenchmark } from "./miss.ts";
import { scaleBenchmark } from "./scale.ts";
import { simBenchmark } from "./sim.ts";
import { stormBenchmark } from "./storm.ts";

const benchmarks: readonly Benchmark[] = [
  hitBenchmark,
  missBenchmark,
  scaleBenchmark,
  faultsBenchmark,
  controllerBenchmark,
  authBenchmark,
  stormBenchmark,
  simBenchmark,
  loadBenchmark,
  fleetFaultsBenchmark,
  densityBenchmark,
];
const names = benchmarks.map(({ name }) => name).join(", ");

const help = `usage: npm run bench -- NAME [--json] [--rounds N] [--models N] [--misses N] [--requests N]

  --json      the last line of the output is one JSON object; all else goes to standard error
  --rounds N  rounds, in each of which everything compared has its turn (default: 7)
  --models N  models that are warm in \`hit\` (default: 300)
  --misses N  cold requests of \`miss\` (default: 20000)
  --objects N  InferenceServices of \`controller\` (default: 5000)
  --requests N  requests under each fault of \`faults\`, of all together of \`fleet-faults\` (default: 20000)

${benchmarks.map((benchmark) => `${benchmark.name}: ${benchmark.summary}\n${formatFigures(benchmark)}`).join("\n\n")}
`;

const count = (least: number, most: number): z.ZodType<number, string> =>
  z
    .string()
    .regex(/^\d{1,6}$/, { error: "must be a whole number" })
    .transform(Number)
    .pipe(z.int().min(least).max(most));

const schema = z.object({
  json: z.boolean().default(false),
  help: z.boolean().default(false),
  rounds: count(1, 100).default(7),
  models: count(1, 9_999).default(300),
  misses: count(1_000, 500_000).default(20_000),
  requests: count(1, 500_000).default(20_000),
  objects: count(1, 100_000).default(5_000),
});

await runMain(
  "bench",
  async (signal, stack) => {
    const { values, positionals } = parseCommandLine();
    const options = parseOptions(schema, values);
    if (options.help) {
      process.stdout.write(help);
      return 0;
    }
    const benchmark = findBenchmark(positionals);
    const envoyBinary = process.env["WARMPATH_ENVOY"];
    const libraryFolder = process.env["WARMPATH_LIBRARY"];
    if (envoyBinary === undefined || libraryFolder === undefined) {
      throw new StartupError("Envoy and the model library are not set up: start with `npm run bench`, which does that");
    }
    const context = { ...options, envoyBinary, libraryFolder, say: (line: string) => void process.stderr.write(`${line}\n`) };
    const figures = await benchmark.run(context, signal, stack);
    const out = options.json ? process.stderr : process.stdout;
    out.write(`\n${benchmark.name}: ${benchmark.summary}\n${formatFigures(benchmark, figures)}\n`);
    if (options.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
    return 0;
  },
  { stopDeadlineMs: 20_000 },
);

function findBenchmark(positionals: readonly string[]): Benchmark {
  const [name, ...more] = positionals;
  const found = benchmarks.find((each) => each.name === name);
  if (found !== undefined && more.length === 0) return found;
  if (name === undefined) throw new StartupError(`name a benchmark: ${names}. \`npm run bench -- --help\` explains them`);
  throw new StartupError(`there is no benchmark ${[name, ...more].join(" ")}. There is: ${names}`);
}

function parseCommandLine(): { readonly values: unknown; readonly positionals: readonly string[] } {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
        rounds: { type: "string" },
        models: { type: "string" },
        misses: { type: "string" },
        requests: { type: "string" },
        objects: { type: "string" },
      },
    });
  } catch (error) {
    throw new StartupError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
