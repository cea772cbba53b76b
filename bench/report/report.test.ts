// The report: what it draws can be drawn, the page needs nothing beside it, a benchmark that fails leaves the others; and
// README tells no figure that docs/measured.json does not hold.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openRunFolder } from "#platform/tempdir.ts";
import { findEnvoy, findLibrary } from "#test/harness/setup.ts";
import { benchmarks } from "../list.ts";
import type { Plot } from "../plot.ts";
import { latencyLine, quantilesOf, shareAxis } from "../plot.ts";
import { replaceMeasured } from "./measured.ts";
import { buildReportPage } from "./page.ts";
import { formatResults, parseResults, type Results } from "./results.ts";
import { drawPlot } from "./svg.ts";

const root = new URL("../../", import.meta.url);
const kept = new URL("docs/measured.json", root);

const latency: Plot = {
  title: "hits & <misses>",
  x: shareAxis,
  y: { label: "ms", scale: "log" },
  lines: [latencyLine("hit", [quantilesOf([1, 2, 3, 4, 100]), quantilesOf([1, 2, 3, 4, 50])])],
};

for (const [name, plot] of Object.entries({
  latency,
  empty: { ...latency, lines: [] },
  "a single point": { ...latency, x: { label: "s" }, lines: [{ name: "one", points: [[0, 0]] }] },
  "below zero": {
    ...latency,
    x: { label: "s" },
    y: { label: "ms" },
    lines: [
      {
        name: "a",
        points: [
          [-5, 1],
          [5, 3],
        ],
      },
    ],
  },
} satisfies Record<string, Plot>)) {
  test(`a plot is drawn within its bounds: ${name}`, () => {
    const svg = drawPlot(plot);
    assert.doesNotMatch(svg, /NaN|Infinity|<misses>/);
    const places = Array.from(svg.matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g), ([, x, y]) => [Number(x), Number(y)] as const);
    for (const [x, y] of places) assert.ok(x >= 0 && x <= 760 && y >= 0 && y <= 300, `${x} ${y}`);
  });
}

test("the tail of the slower run of two is not lost, and the line never falls", () => {
  const { points } = latencyLine("x", [quantilesOf([1, 2, 3]), quantilesOf([2, 3, 9]), quantilesOf([1, 3, 8])]);
  assert.equal(points.at(-1)?.[1], 8);
  assert.deepEqual(
    points.map(([, y]) => y),
    points.map(([, y]) => y).toSorted((a, b) => a - b),
  );
});

function resultsWith(figures: Results["runs"][string]["figures"]): Results {
  const machine = { processor: "A & B", processors: 2, memoryBytes: 2 ** 34, system: "Linux 6", load: 0.5 };
  const run = { command: "npm run bench -- hit", at: "2026-01-02T03:04:05.000Z", seconds: 9, isQuick: false, machine };
  return { format: "warmpath-results-1", runs: { hit: { ...run, versions: { node: "26" }, figures, plots: [latency] } } };
}

test("the page needs nothing beside it, and says where each figure is from", () => {
  const page = buildReportPage(resultsWith({ hitRps: 5_000, parts: { a: { worstMs: 1 }, b: { worstMs: 2 } } }), benchmarks);
  assert.doesNotMatch(page, /(?:src|href)="(?!#)|url\(|@import|<script/);
  for (const told of ["npm run bench -- hit", "A &amp; B", "2026-01-02 03:04", "5,000", "hits a second", "<svg"]) {
    assert.ok(page.includes(told), told);
  }
});

test("results are read as they were written; others are refused by name", () => {
  const results = resultsWith({ hitRps: 1 });
  assert.deepEqual(parseResults(formatResults(results), "x"), results);
  for (const text of ["", "{}", '{"format":"warmpath-results-1","runs":{"hit":{}}}']) {
    assert.throws(() => parseResults(text, "/some/results.json"), /\/some\/results\.json does not hold results/);
  }
});

test("README's figures are those of docs/measured.json, and no others", () => {
  const readme = readFileSync(new URL("README.md", root), "utf8");
  const results = parseResults(readFileSync(kept, "utf8"), "docs/measured.json");
  assert.ok(Object.keys(results.runs).length > 0);
  assert.equal(readme, replaceMeasured(readme, results), "run `npm run bench -- report --keep --only NAME`");
  for (const { isQuick } of Object.values(results.runs)) assert.equal(isQuick, false);
});

test("a report is made by real runs; one that fails is told and takes nothing away", { timeout: 180_000 }, async () => {
  await using folder = await openRunFolder();
  const out = join(folder.path, "report");
  const run = async (args: readonly string[], env: Record<string, string>): Promise<{ code: number; said: string }> => {
    const main = fileURLToPath(new URL("bench/main.ts", root));
    const child = spawn(process.execPath, [main, "report", "--quick", "--out", out, ...args], {
      env: { ...process.env, WARMPATH_LIBRARY: await findLibrary(), ...env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const [code] = (await once(child, "close")) as [number];
    return { code, said };
  };
  const good = await run(["--only", "start"], { WARMPATH_ENVOY: await findEnvoy() });
  assert.equal(good.code, 0, good.said);
  const { runs } = parseResults(await readFile(join(out, "results.json"), "utf8"), "results.json");
  const { figures, versions } = runs["start"]!;
  assert.ok(Number(figures["requests"]) > 0);
  assert.deepEqual([figures["failed"], figures["wrong"]], [0, 0]);
  assert.match(versions["envoy"] ?? "", /^\d+\.\d+/);
  const page = await readFile(join(out, "index.html"), "utf8");
  assert.match(page, /npm start -- --for 30s --json[^]*A quick run/);

  const bad = await run(["--only", "hit"], { WARMPATH_ENVOY: await findEnvoy(), WARMPATH_LIBRARY: join(folder.path, "none") });
  assert.equal(bad.code, 1);
  assert.match(bad.said, /hit failed: .*failed: hit/s);
  const after = await readFile(join(out, "index.html"), "utf8");
  assert.match(after, /<h2 id="failures">Runs that failed<\/h2><ul><li><strong>hit<\/strong>/);
  assert.match(after, /Without a result here: .*<code>hit<\/code>/);
  const section = (text: string): string => text.slice(text.indexOf('<section aria-labelledby="start">'));
  assert.equal(section(after), section(page));
});
