// The chart's alert rules and dashboard, as Prometheus itself reads them.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openRunFolder } from "#platform/tempdir.ts";
import { checkExpressions, checkRules, lintScrape, whyNoPromtool } from "../harness/promtool.ts";
import { readAutoscalerExpressions } from "./autoscalers.ts";

const files = new URL("../../charts/warmpath/files/", import.meta.url);
const skip = whyNoPromtool() ?? false;

describe("Prometheus itself", { skip }, () => {
  test("reads the alert rules, and refuses them with a mistake", async () => {
    await using folder = await openRunFolder();
    const rules = fileURLToPath(new URL("alerts.yaml", files));
    assert.deepEqual(await checkRules(rules), []);
    const text = readFileSync(rules, "utf8");
    for (const [right, wrong] of [
      ["absent(warmpath_gateway_ready)", "absent(warmpath_gateway_ready"],
      ["for: 5m", "for: soon"],
      ["{{ $labels.instance }}", "{{ $label.instance }}"],
      ["annotations:", "remarks:"],
    ] as const) {
      assert.ok(text.includes(right), right);
      const file = join(folder.path, "wrong.yaml");
      writeFileSync(file, text.replace(right, wrong));
      assert.notDeepEqual(await checkRules(file), [], wrong);
    }
  });

  test("reads the expressions of the dashboard", async () => {
    const dashboard = JSON.parse(readFileSync(new URL("dashboard.json", files), "utf8")) as {
      readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[];
    };
    const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    assert.ok(expressions.length > 15);
    const asAsked = expressions.map((expr) => expr.replaceAll("$__rate_interval", "5m").replaceAll("\n", " "));
    assert.deepEqual(await checkExpressions(asAsked), []);
    assert.equal((await checkExpressions(["sum by (a) (b)", "sum by (a (b)"])).length, 1);
  });

  test("reads what autoscalers ask", async () => {
    assert.deepEqual(await checkExpressions(readAutoscalerExpressions()), []);
  });

  test("has a word for a metric that is not as it should be", async () => {
    assert.equal((await lintScrape("# HELP a_seconds A time.\n# TYPE a_seconds gauge\na_seconds 1\n")).length, 0);
    assert.notEqual((await lintScrape("# TYPE a_milliseconds counter\na_milliseconds 1\n")).length, 0);
    assert.notEqual((await lintScrape("a{ 1\n")).length, 0);
  });
});
