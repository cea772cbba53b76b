// Runs one test file in a process of its own and collects its results. A file that is not done in time is killed:
// node:test's own timeout does not end a file whose tests are done but whose handles are not.

import { relative } from "node:path";
import { run } from "node:test";
import { resultOf, type TestResult } from "./tally.ts";

export interface FileRun {
  readonly file: string;
  readonly durationMs: number;
  readonly results: readonly TestResult[];
  /** What the file printed, the end of it. */
  readonly output: string;
  /** What its tests tell of themselves, such as a time that they took. */
  readonly told: readonly string[];
}

const maxOutputLength = 20_000;
const maxTold = 50;
/** What node:test itself tells at the end of a file. */
const summary = /^(?:tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+$/;

export async function runFile(path: string, root: string, timeoutMs: number, stop: AbortSignal): Promise<FileRun> {
  const file = relative(root, path);
  const late = AbortSignal.timeout(timeoutMs);
  const startedMs = performance.now();
  const results: TestResult[] = [];
  const told: string[] = [];
  let output = "";
  const events = run({ cwd: root, files: [path], concurrency: 1, timeout: timeoutMs, signal: AbortSignal.any([stop, late]) });
  for await (const { type, data } of events) {
    if (type === "test:stdout" || type === "test:stderr") output = (output + data.message).slice(-maxOutputLength);
    if (type === "test:diagnostic" && told.length < maxTold && !summary.test(data.message)) told.push(data.message.slice(0, 500));
    if (type !== "test:pass" && type !== "test:fail") continue;
    const isFile = data.nesting === 0 && data.name === path;
    const result = resultOf(
      { name: data.name, file, passed: type === "test:pass", skip: data.skip, details: data.details },
      isFile,
    );
    if (result !== undefined) results.push(result);
  }
  if (late.aborted)
    results.push({ file, name: "(file)", kind: "failed", error: new Error(`not done after ${timeoutMs / 1_000} s: killed`) });
  return { file, durationMs: performance.now() - startedMs, results, output, told };
}
