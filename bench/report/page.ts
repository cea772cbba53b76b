// Owns the report: one page of HTML that needs nothing beside it, for a reader who does not believe it yet. Pure.
import type { Benchmark, Figures } from "../benchmark.ts";
import type { Results, Run } from "./results.ts";
import { drawPlot, escape, plotStyle } from "./svg.ts";

const style = `
:root { color-scheme: light dark; --ground: light-dark(#f7f6f3, #14171c); --card: light-dark(#fff, #1c2027); --line: light-dark(#dedad2, #2e343e); --text: light-dark(#1d2129, #e8e6e1); --soft: light-dark(#5a616d, #a3abb8); --accent: light-dark(#9a3412, #f4a261); }
body { margin: 0 auto; max-width: 900px; padding: 24px 20px 60px; background: var(--ground); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
h2 { margin-top: 44px; border-top: 1px solid var(--line); padding-top: 20px; }
a { color: var(--accent); }
table { border-collapse: collapse; width: 100%; font-size: 15px; margin: 12px 0; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 500; color: var(--soft); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: var(--card); border: 1px solid var(--line); border-radius: 5px; padding: 1px 5px; }
pre { padding: 10px 14px; overflow-x: auto; }
.wide { overflow-x: auto; }
.soft { color: var(--soft); }
${plotStyle}`;

/** A run of this report that came to no result. */
export interface FailedRun {
  readonly name: string;
  /** ISO 8601. */
  readonly at: string;
  readonly reason: string;
}

const maxReasonLength = 2_000;

export function buildReportPage(results: Results, benchmarks: readonly Benchmark[], failures: readonly FailedRun[] = []): string {
  const there = benchmarks.flatMap((benchmark) => {
    const run = results.runs[benchmark.name];
    return run === undefined ? [] : [{ benchmark, run }];
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Warmpath: what was measured</title>
<style>${style}</style>
</head>
<body>
<h1>Warmpath: what was measured</h1>
${introduction}
${describeFailures(results, failures)}
${describeMissing(results, benchmarks)}
<nav aria-label="Benchmarks"><ul>${there.map(({ benchmark: { name, summary } }) => `<li><a href="#${name}">${name}</a>: ${withCode(summary)}</li>`).join("\n")}</ul></nav>
${buildSections(results, benchmarks)}
</body>
</html>
`;
}

/** A result from before is shown in its part still; that the last run failed says more. */
function describeFailures(results: Results, failures: readonly FailedRun[]): string {
  if (failures.length === 0) return "";
  const items = failures.map(({ name, at, reason }) => {
    const kept = results.runs[name] === undefined ? "" : " What is shown of it below is of an earlier run.";
    return `<li><strong>${escape(name)}</strong> at ${escape(at.slice(0, 16).replace("T", " "))} UTC.${kept}<pre>${escape(reason.slice(0, maxReasonLength))}</pre></li>`;
  });
  return `<section aria-labelledby="failures"><h2 id="failures">Runs that failed</h2><ul>${items.join("\n")}</ul></section>`;
}

function describeMissing(results: Results, benchmarks: readonly Benchmark[]): string {
  const missing = benchmarks.flatMap(({ name }) => (results.runs[name] === undefined ? [`<code>${escape(name)}</code>`] : []));
  return missing.length === 0 ? "" : `<p>Without a result here: ${missing.join(", ")}.</p>`;
}

const introduction = `<p>Each part below is one command on one machine, named with its date and what it ran. <code>results.json</code> beside
this page has the same figures and the points of all plots. Before you believe a figure:</p>
<ul>
<li>Envoy, gateway, adapters and the load share the processors of one machine, so rates are those of that machine, and times hold
the load's own. Where a cost is told as a ratio, what it is compared with had its turn in the same rounds, in changing order.</li>
<li>A figure over requests that failed says nothing: the benchmarks of speed end with an error then. Those of faults count them.</li>
<li>"Straight" and "static route" are the same model server without Warmpath: without any Envoy, and behind a plain route of the same Envoy.</li>
<li>The load average before a run tells what else the machine did.</li>
</ul>`;

/** The parts of all benchmarks that have results, for this page or another. */
export function buildSections(results: Results, benchmarks: readonly Benchmark[]): string {
  return benchmarks
    .flatMap((benchmark) => {
      const run = results.runs[benchmark.name];
      return run === undefined ? [] : [section(benchmark, run)];
    })
    .join("\n");
}

function section(benchmark: Benchmark, run: Run): string {
  const { machine, versions } = run;
  const of = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `<section aria-labelledby="${benchmark.name}">
<h2 id="${benchmark.name}">${benchmark.name}</h2>
<p>${withCode(sentence(benchmark.summary))}</p>
<pre>${escape(run.command)}</pre>
<p class="soft">${escape(run.at.slice(0, 16).replace("T", " "))} UTC, ${duration(run.seconds)}, on ${machine.processors} processors of ${escape(machine.processor)} with ${Math.round(machine.memoryBytes / 2 ** 30)} GiB, ${escape(machine.system)}, load average ${machine.load} before. ${escape(of.join(", "))}.${run.isQuick ? " <strong>A quick run: too small to be quoted.</strong>" : ""}</p>
${run.plots.map(drawPlot).join("\n")}
${figuresTable(benchmark, run.figures)}
</section>`;
}

function figuresTable(benchmark: Benchmark, figures: Figures): string {
  const rows = Object.entries(benchmark.figures).flatMap(([name, meaning]) => {
    const value = figures[name];
    return typeof value === "number"
      ? [
          `<tr><td><code>${name}</code></td><td class="number">${value.toLocaleString("en-US", { maximumFractionDigits: 3 })}</td><td>${withCode(meaning)}</td></tr>`,
        ]
      : [];
  });
  const head = `<thead><tr><th scope="col">figure</th><th scope="col" class="number">value</th><th scope="col">meaning</th></tr></thead>`;
  return `<div class="wide" tabindex="0"><table>${head}<tbody>${rows.join("\n")}</tbody></table></div>${partsTables(figures)}`;
}

/** Figures of parts stand one part a row; a table for each kind of part. */
function partsTables(figures: Figures): string {
  const nested = Object.entries(figures).flatMap(([name, value]) => (typeof value === "number" ? [] : [[name, value] as const]));
  // Parts that stand by themselves, such as the storms, are rows of one table; lists of parts have one each.
  const single = nested.filter(([, part]) => Object.values(part).every((value) => typeof value === "number"));
  const lists = nested.filter(([, part]) => Object.values(part).some((value) => typeof value !== "number"));
  return [
    ...(single.length === 0 ? [] : [partsTable("part", Object.fromEntries(single))]),
    ...lists.map(([name, parts]) => partsTable(name, parts)),
  ].join("\n");
}

function partsTable(what: string, parts: Figures): string {
  const rows = Object.entries(parts).flatMap(([name, part]) => (typeof part === "number" ? [] : [[name, part] as const]));
  const columns = [...new Set(rows.flatMap(([, part]) => Object.keys(part).filter((key) => typeof part[key] === "number")))];
  const head = [
    `<th scope="col">${escape(what)}</th>`,
    ...columns.map((name) => `<th scope="col" class="number">${escape(name)}</th>`),
  ];
  const body = rows.map(
    ([name, part]) =>
      `<tr><td>${escape(name)}</td>${columns.map((column) => `<td class="number">${typeof part[column] === "number" ? part[column].toLocaleString("en-US", { maximumFractionDigits: 3 }) : ""}</td>`).join("")}</tr>`,
  );
  return `<div class="wide" tabindex="0"><table><thead><tr>${head.join("")}</tr></thead><tbody>${body.join("\n")}</tbody></table></div>`;
}

/** Words between backticks are names. */
function withCode(text: string): string {
  return escape(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function duration(seconds: number): string {
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
