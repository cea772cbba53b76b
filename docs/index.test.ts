// The index of the documentation and the list of decisions are made from what is there, so no page is left out.
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { holdToEnd } from "./generated.ts";
import { describeDecisions, describeIndex, parts } from "./site/pages.ts";

const folder = fileURLToPath(new URL(".", import.meta.url));

test("docs/README.md names every page", () => {
  holdToEnd("README.md", "<!-- pages -->", describeIndex());
});

test("every page of docs/ is in the index", () => {
  const listed = parts.flatMap(({ pages }) => pages.map(({ file }) => file));
  const there = globSync("*.md", { cwd: folder }).filter((file) => file !== "README.md");
  assert.deepEqual(
    there.filter((file) => !listed.includes(file)),
    [],
  );
});

test("docs/decisions/README.md lists every decision by its number", () => {
  const decisions = globSync("decisions/[0-9]*.md", { cwd: folder })
    .toSorted()
    .map((file) => ({
      file: file.replace("decisions/", ""),
      title: /^# (.+)$/m.exec(readFileSync(`${folder}${file}`, "utf8"))?.[1] ?? "",
    }));
  assert.equal(new Set(decisions.map(({ file }) => file.slice(0, 4))).size, decisions.length, "no number comes twice");
  holdToEnd("decisions/README.md", "<!-- decisions -->", describeDecisions(decisions));
});
