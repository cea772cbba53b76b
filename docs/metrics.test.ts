// docs/metrics.md is held to the definitions of metrics; with UPDATE_DOCS=1 its tables are written anew instead. The
// alert rules and the dashboard of the chart use only metrics and labels that exist, and each alert has its runbook.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import { adapterDefinitions } from "#adapters/metrics.ts";
import { controllerDefinitions } from "#controller/metrics.ts";
import { gatewayDefinitions } from "#gateway/metrics.ts";
import type { Definitions } from "#platform/metrics.ts";
import { describeMetrics } from "#platform/metricsdocs.ts";
import { processMetricNames } from "#platform/processmetrics.ts";
import { readAutoscalerExpressions } from "#test/prometheus/autoscalers.ts";

const file = new URL("metrics.md", import.meta.url);
const tables: Readonly<Record<string, Definitions>> = {
  gateway: gatewayDefinitions,
  adapter: adapterDefinitions,
  controller: controllerDefinitions,
};

/** The formatter pads the columns of a table: that is no difference. */
function unpad(text: string): string {
  return text
    .replaceAll(/ *\| */g, " | ")
    .replaceAll(/-{3,}/g, "---")
    .trim();
}

for (const [name, definitions] of Object.entries(tables)) {
  test(`the table of the ${name}'s metrics is what its definitions say`, () => {
    const text = readFileSync(file, "utf8");
    const part = new RegExp(`(<!-- ${name} -->\n)([^]*?)(<!-- end -->)`);
    const [, , found] = part.exec(text) ?? [];
    assert.ok(found !== undefined, `docs/metrics.md has the part ${name}`);
    const wanted = describeMetrics(definitions);
    if (unpad(found) !== unpad(wanted) && process.env["UPDATE_DOCS"] === "1") {
      return writeFileSync(
        file,
        text.replace(part, (_all, start: string, _old: string, end: string) => `${start}\n${wanted}\n${end}`),
      );
    }
    return assert.equal(unpad(found), unpad(wanted), "run `UPDATE_DOCS=1 npm test -- docs/metrics`, then the formatter");
  });
}

const definitions = Object.values(tables).flatMap((each) => Object.values(each));
const labelsByName = new Map<string, ReadonlySet<string>>(
  definitions.flatMap(({ kind, name, labels }) => {
    const own = new Set(Object.keys(labels));
    if (kind !== "histogram") return [[name, own] as const];
    return [[`${name}_bucket`, new Set([...own, "le"])] as const, [`${name}_count`, own] as const, [`${name}_sum`, own] as const];
  }),
);
/** What Prometheus itself adds, and what its configuration does. */
const outerLabels = new Set(["job", "instance", "pod", "namespace", "service", "runtime"]);

test("no two metrics have one name, and all have the house's prefix and an explanation", () => {
  const names = definitions.flatMap(({ name, alias }) => (alias === undefined ? [name] : [name, alias.name]));
  assert.deepEqual(
    names.filter((name, at) => names.indexOf(name) < at),
    [],
  );
  for (const { name, kind, help } of definitions) {
    assert.match(name, /^warmpath_[a-z_]+$/);
    assert.equal(name.endsWith("_total"), kind === "counter", name);
    assert.match(help, /^.{10,}[.]$/, name);
  }
});

/** What is wrong with an expression of PromQL, as far as names tell. */
function complaints(expression: string): string[] {
  const plain = expression.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  const used = new Set<string>(outerLabels);
  const wrong: string[] = [];
  for (const [, name = "", matchers = ""] of plain.matchAll(
    /\b(warmpath_[a-z_]+|up|process_[a-z_]+|nodejs_[a-z_0-9]+)\b(?:\{([^}]*)\})?/g,
  )) {
    const labels = labelsByName.get(name);
    const foreign = name === "up" || processMetricNames.includes(name);
    if (labels === undefined && !foreign) wrong.push(`there is no metric ${name}`);
    for (const label of labels ?? []) used.add(label);
    for (const [, label = ""] of matchers.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g)) {
      if (!outerLabels.has(label) && labels?.has(label) !== true) wrong.push(`${name} has no label ${label}`);
    }
  }
  for (const [, list = ""] of plain.matchAll(/\b(?:by|without|on|ignoring)\s*\(([^)]*)\)/g)) {
    for (const label of list.split(",").map((each) => each.trim()))
      if (!used.has(label)) wrong.push(`nothing here has a label ${label}`);
  }
  return wrong;
}

test("a wrong metric or label in an expression is found", () => {
  assert.deepEqual(complaints('sum by (state) (warmpath_copies{state="ready"}) / warmpath_models'), []);
  assert.equal(complaints("warmpath_nothing_total").length, 1);
  assert.equal(complaints('warmpath_copies{colour="red"}').length, 1);
  assert.equal(complaints("sum by (colour) (warmpath_copies)").length, 1);
  assert.equal(complaints("warmpath_hit_seconds > 1").length, 1);
});

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook_url: string };
}

const files = new URL("../charts/warmpath/files/", import.meta.url);
const alerts = parse(readFileSync(new URL("alerts.yaml", files), "utf8")) as {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
};

test("each alert uses metrics that exist, says what it means, and has its part of the runbook", () => {
  const runbook = readFileSync(new URL("runbook.md", import.meta.url), "utf8");
  const rules = alerts.groups.flatMap(({ rules }) => rules);
  assert.ok(rules.length > 8);
  for (const { alert, expr, annotations, labels } of rules) {
    assert.deepEqual(complaints(expr), [], alert);
    assert.match(annotations.summary, /\S.{10,}/, alert);
    assert.match(annotations.description, /\S.{20,}/, alert);
    assert.match(labels.severity, /^(critical|warning|info)$/, alert);
    assert.ok(runbook.includes(`\n## ${alert}\n`), `docs/runbook.md has a part ${alert}`);
    assert.equal(annotations.runbook_url.split("#")[1], alert.toLowerCase());
  }
  const parts = Array.from(runbook.matchAll(/^## (Warmpath\w+)$/gm), ([, name]) => name);
  assert.deepEqual(
    parts.filter((part) => !rules.some(({ alert }) => alert === part)),
    [],
  );
});

test("autoscalers are told of metrics and labels that exist", () => {
  const expressions = readAutoscalerExpressions();
  assert.equal(expressions.length, 5);
  for (const expression of expressions) assert.deepEqual(complaints(expression), [], expression);
});

test("the dashboard uses metrics that exist, and no panel twice", () => {
  const dashboard = JSON.parse(readFileSync(new URL("dashboard.json", files), "utf8")) as {
    readonly uid: string;
    readonly panels: readonly {
      readonly id: number;
      readonly title: string;
      readonly type: string;
      readonly description?: string;
      readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
      readonly targets?: readonly { readonly expr: string }[];
    }[];
  };
  const expressions = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
  assert.ok(expressions.length > 15);
  for (const { title, expr } of expressions) assert.deepEqual(complaints(expr.replaceAll("$__rate_interval", "5m")), [], title);
  const ids = dashboard.panels.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  for (const { type, title, description, targets, gridPos } of dashboard.panels) {
    assert.ok(gridPos.x + gridPos.w <= 24, title);
    if (type !== "row") assert.ok((description ?? "") !== "" && (targets ?? []).length > 0, title);
  }
});
