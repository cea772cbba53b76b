// Runs every *.test.ts, each file in a process of its own, and ends with the line `N passed, N failed`.
// Fails when a test failed, when none ran (a wrong filter must not look like success), or, with CI set, when one was skipped.
// With CI set a few failed files run once more, alone, and are told as unsteady (docs/decisions/0069).
import { globSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type FileRun, runFile } from "./file.ts";
import { describeFile, describeUnsteady } from "./report.ts";
import { deservesSecondRun, settle } from "./second.ts";
import { chooseFiles, countResults, exitCodeOf, summaryOf } from "./tally.ts";

const fileTimeoutMs = 600_000;
/** The first of these folders' files to run builds a Kubernetes, or installs a store: minutes on a busy machine. */
const preparing: Readonly<Record<string, number>> = {
  "test/kubernetes/": 3_000_000,
  "adapters/pull/stores/": 1_800_000,
  "test/clients/": 1_800_000,
  "test/e2e/storage.": 1_800_000,
  "test/e2e/foreign.": 1_800_000,
  "test/e2e/llm.": 1_800_000,
};
const concurrency = 2;
const onBuildMachine = (process.env["CI"] ?? "") !== "";
const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

const stop = new AbortController();
const interrupt = (): void => {
  stop.abort();
  // What does not end when it is told to is not waited for.
  setTimeout(() => process.exit(130), 5_000).unref();
};
process.on("SIGTERM", interrupt);
process.on("SIGINT", interrupt);
if (process.connected) process.once("disconnect", interrupt);

const filters = process.argv.slice(2);
const found = globSync("**/*.test.ts", { cwd: root, exclude: ["**/node_modules/**", "proto/gen/**", ".warmpath/**"] });
const waiting = [...chooseFiles(found, filters)];
const firstRuns: FileRun[] = [];
const startedMs = performance.now();

function timeoutOf(file: string): number {
  return Object.entries(preparing).find(([start]) => file.startsWith(start))?.[1] ?? fileTimeoutMs;
}

async function runAndTell(file: string): Promise<FileRun> {
  const run = await runFile(join(root, file), root, timeoutOf(file), stop.signal);
  process.stdout.write(describeFile(run));
  return run;
}

async function work(): Promise<void> {
  for (let file = waiting.shift(); file !== undefined && !stop.signal.aborted; file = waiting.shift())
    firstRuns.push(await runAndTell(file));
}
await Promise.all(Array.from({ length: concurrency }, work));

const secondRuns: FileRun[] = [];
const again = onBuildMachine && !stop.signal.aborted ? deservesSecondRun(firstRuns) : [];
if (again.length > 0) console.log(`failed beside others, run once more alone: ${again.join(", ")}`);
for (const file of again) if (!stop.signal.aborted) secondRuns.push(await runAndTell(file));
const { done, unsteady } = settle(firstRuns, secondRuns);

const slowest = [...done].sort((a, b) => b.durationMs - a.durationMs).slice(0, 5);
console.log(done.length === 0 ? `no test file matches ${JSON.stringify(filters)}` : "slowest files:");
for (const { file, durationMs } of slowest) console.log(`  ${(durationMs / 1_000).toFixed(1).padStart(6)} s  ${file}`);
console.log(`${done.length} files in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s`);
process.stdout.write(describeUnsteady(unsteady));
const counts = countResults(done.flatMap((run) => run.results));
console.log(summaryOf(counts));
process.exit(stop.signal.aborted ? 130 : exitCodeOf(counts, onBuildMachine));
