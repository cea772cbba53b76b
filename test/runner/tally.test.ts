import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openRunFolder } from "#platform/tempdir.ts";
import { runFile } from "./file.ts";
import { describeFile } from "./report.ts";
import { chooseFiles, countResults, exitCodeOf, summaryOf } from "./tally.ts";

async function runSource(source: string, timeoutMs = 20_000): Promise<{ summary: string; text: string }> {
  await using folder = await openRunFolder();
  const path = join(folder.path, "a.test.ts");
  writeFileSync(path, source);
  // Inside a test node:test would report to the outer run instead of starting a process.
  const outer = process.env["NODE_TEST_CONTEXT"];
  delete process.env["NODE_TEST_CONTEXT"];
  try {
    const run = await runFile(path, folder.path, timeoutMs, new AbortController().signal);
    return { summary: summaryOf(countResults(run.results)), text: describeFile(run) };
  } finally {
    if (outer !== undefined) process.env["NODE_TEST_CONTEXT"] = outer;
  }
}

const imports = `import { describe, test } from "node:test";\n`;

test("counts tests, not suites, and shows what failed", async () => {
  const { summary, text } = await runSource(
    `${imports} test("fine", () => {}); test("later", { skip: true }, () => {}); describe("suite", () => { test("bad", () => { console.log("a hint"); throw new Error("broken"); }); });`,
  );
  assert.equal(summary, "1 passed, 1 failed, 1 skipped");
  assert.match(text, /^FAILED a\.test\.ts: .*\n {2}skipped: later\n {2}failed: bad\n {4}Error: broken\n[^]*\| a hint\n$/);
});

test("a file that cannot be loaded, or holds no test, has failed", async () => {
  const broken = await runSource(`throw new Error("not loadable");`);
  assert.equal(broken.summary, "0 passed, 1 failed");
  assert.match(broken.text, /Error: not loadable/);
  assert.equal((await runSource("export {};")).summary, "0 passed, 1 failed");
});

test("a file that does not end is killed and has failed", async () => {
  const { summary, text } = await runSource(`${imports} test("fine", () => {}); setInterval(() => {}, 1000);`, 1_500);
  assert.match(summary, /^1 passed, [12] failed$/);
  assert.match(text, /not done after 1\.5 s: killed/);
});

test("a run must have run something", () => {
  assert.equal(exitCodeOf({ passed: 3, failed: 0, skipped: 0 }, true), 0);
  assert.equal(exitCodeOf({ passed: 3, failed: 0, skipped: 1 }, false), 0);
  assert.equal(exitCodeOf({ passed: 3, failed: 0, skipped: 1 }, true), 1);
  assert.equal(exitCodeOf({ passed: 3, failed: 1, skipped: 0 }, false), 1);
  assert.equal(exitCodeOf({ passed: 0, failed: 0, skipped: 0 }, false), 1);
});

test("filters choose files by a part of their path", () => {
  const files = ["core/b.test.ts", "core/a.test.ts", "xds/a.test.ts"];
  assert.deepEqual(chooseFiles(files, []), ["core/a.test.ts", "core/b.test.ts", "xds/a.test.ts"]);
  assert.deepEqual(chooseFiles(files, ["./core", "xds"]), ["core/a.test.ts", "core/b.test.ts", "xds/a.test.ts"]);
  assert.deepEqual(chooseFiles(files, ["none"]), []);
});
