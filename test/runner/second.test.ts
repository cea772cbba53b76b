import assert from "node:assert/strict";
import { test } from "node:test";
import type { FileRun } from "./file.ts";
import { describeUnsteady } from "./report.ts";
import { deservesSecondRun, settle } from "./second.ts";
import { countResults } from "./tally.ts";

function runOf(file: string, results: Readonly<Record<string, "passed" | "failed">>, durationMs = 1_000): FileRun {
  return {
    file,
    durationMs,
    results: Object.entries(results).map(([name, kind]) => ({ file, name, kind })),
    output: "",
    told: [],
  };
}

const sound = runOf("a.test.ts", { one: "passed" });
const broken = runOf("b.test.ts", { two: "failed", three: "passed" });

test("only what failed runs again", () => {
  assert.deepEqual(deservesSecondRun([sound, broken]), ["b.test.ts"]);
  assert.deepEqual(deservesSecondRun([sound]), []);
});

test("many failures, and files that hung, get no second run", () => {
  const many = ["b", "c", "d", "e"].map((name) => runOf(name, { two: "failed" }));
  assert.deepEqual(deservesSecondRun(many), []);
  assert.deepEqual(deservesSecondRun([sound, runOf("b", { two: "failed" }, 600_000)]), []);
});

test("what fails twice has failed", () => {
  const { done, unsteady } = settle([sound, broken], [broken]);
  assert.deepEqual(countResults(done.flatMap((run) => run.results)), { passed: 2, failed: 1, skipped: 0 });
  assert.deepEqual(unsteady, []);
});

test("what passes alone is counted once, and named", () => {
  const { done, unsteady } = settle([sound, broken], [runOf("b.test.ts", { two: "passed", three: "passed" })]);
  assert.deepEqual(countResults(done.flatMap((run) => run.results)), { passed: 3, failed: 0, skipped: 0 });
  assert.match(describeUnsteady(unsteady), /^UNSTEADY.*\n {2}b\.test\.ts: two\n$/);
});

test("a second run that finds another fault has failed", () => {
  const { done, unsteady } = settle([broken], [runOf("b.test.ts", { two: "passed", three: "failed" })]);
  assert.equal(countResults(done.flatMap((run) => run.results)).failed, 1);
  assert.deepEqual(unsteady, []);
});

test("without a second run the first counts", () => {
  assert.deepEqual(settle([sound, broken], []), { done: [sound, broken], unsteady: [] });
  assert.equal(describeUnsteady([]), "");
});
