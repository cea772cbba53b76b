// Owns `npm run bench -- report`: each benchmark as a command of its own, one after another, then one page and its data. One
// that fails is told, on the page as well, and does not keep the others from running; what was kept of it before stays.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { errorMessage } from "#core/errors.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import type { Benchmark } from "../benchmark.ts";
import { runCommand } from "../command.ts";
import { describeMachine, readVersions } from "./machine.ts";
import { replaceMeasured } from "./measured.ts";
import { buildReportPage, type FailedRun } from "./page.ts";
import { finite, formatResults, noResults, outcomeSchema, type Results, type Run, readResults } from "./results.ts";

export interface ReportOptions {
  readonly benchmarks: readonly Benchmark[];
  /** Which of them run; of the others the page shows what was kept. */
  readonly only: readonly string[];
  readonly outFolder: string;
  /** Handed on to each, such as `--rounds 3`. */
  readonly flags: readonly string[];
  readonly isQuick: boolean;
  /** Also into the repository: docs/measured.json, and from it README.md. */
  readonly keep: boolean;
  readonly envoyBinary: string;
  readonly say: (line: string) => void;
}

const main = fileURLToPath(new URL("../main.ts", import.meta.url));
const keptFile = fileURLToPath(new URL("../../docs/measured.json", import.meta.url));
const readmeFile = fileURLToPath(new URL("../../README.md", import.meta.url));

/** Returns the names of those that failed. */
export async function runReport(options: ReportOptions, signal: AbortSignal): Promise<readonly string[]> {
  const { benchmarks, only, say, keep } = options;
  const outFolder = resolve(options.outFolder);
  await mkdir(outFolder, { recursive: true });
  let results = (await readResults(keep ? keptFile : join(outFolder, "results.json"))) ?? noResults;
  const failures: FailedRun[] = [];
  const chosen = benchmarks.filter(({ name }) => only.includes(name));
  for (const [at, benchmark] of chosen.entries()) {
    say(`${at + 1} of ${chosen.length}: ${benchmark.name}`);
    try {
      const run = await measure(benchmark, options, signal);
      results = { ...results, runs: { ...results.runs, [benchmark.name]: run } };
    } catch (error) {
      signal.throwIfAborted();
      failures.push({ name: benchmark.name, at: new Date().toISOString(), reason: errorMessage(error) });
      say(`${benchmark.name} failed: ${errorMessage(error)}`);
    }
    // After each: what an interrupted report has is not lost.
    await write(results, failures, outFolder, options);
    await keepInRepository(results, options).catch((error: unknown) => say(`it could not be kept yet: ${errorMessage(error)}`));
  }
  await write(results, failures, outFolder, options);
  await keepInRepository(results, options);
  say(`the report: ${join(outFolder, "index.html")}`);
  return failures.map(({ name }) => name);
}

async function measure(benchmark: Benchmark, options: ReportOptions, signal: AbortSignal): Promise<Run> {
  await using folder = await openRunFolder();
  const into = join(folder.path, "outcome.json");
  const machine = describeMachine();
  const versions = readVersions(options.envoyBinary);
  const at = new Date();
  const flags = [...options.flags, ...(options.isQuick ? ["--quick"] : [])];
  const say = (line: string): void => options.say(`  ${line}`);
  await runCommand(benchmark.name, [main, benchmark.name, "--json", "--into", into, ...flags], say, signal);
  const outcome = outcomeSchema.parse(JSON.parse(await readFile(into, "utf8")));
  const again = benchmark.command ?? ["npm run bench --", benchmark.name, "--json", ...flags].join(" ");
  const seconds = Math.round((Date.now() - at.getTime()) / 1_000);
  return { command: again, at: at.toISOString(), seconds, isQuick: options.isQuick, machine, versions, ...outcome };
}

async function write(
  results: Results,
  failures: readonly FailedRun[],
  outFolder: string,
  { benchmarks }: ReportOptions,
): Promise<void> {
  await writeFile(join(outFolder, "results.json"), formatResults(results));
  await writeFile(join(outFolder, "index.html"), buildReportPage(results, benchmarks, failures));
}

async function keepInRepository(results: Results, { keep }: ReportOptions): Promise<void> {
  if (!keep) return;
  await writeFile(keptFile, formatResults(results));
  await writeFile(readmeFile, replaceMeasured(await readFile(readmeFile, "utf8"), results));
}

/** What a benchmark run with --into leaves. */
export async function writeOutcome(file: string, outcome: unknown): Promise<void> {
  await rm(file, { force: true });
  await writeFile(file, JSON.stringify(finite(outcome)));
}
