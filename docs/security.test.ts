// The threats' table names tests that are there, each under its name in its file.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

const page = readFileSync(new URL("security.md", import.meta.url), "utf8");
const [, table = ""] = /<!-- threats -->\s+((?:\|.*\n)+)/.exec(page) ?? [];
const rows = table
  .trim()
  .split("\n")
  .slice(2)
  .map((row) => row.split("|").map((cell) => cell.trim()));

test("every threat has who, what, how it is stopped, and a test", () => {
  assert.ok(rows.length > 15, `${rows.length} rows`);
  for (const [, who, what, how, tests] of rows) {
    for (const cell of [who, what, how, tests])
      assert.ok(cell !== undefined && cell.length > 5, JSON.stringify([who, what, how, tests]));
  }
});

for (const cell of rows.flatMap((row) => (row[4] ?? "").split("<br>"))) {
  const [, file = "", name = ""] = /^\[[^\]]+\]\(\.\.\/([^)]+)\): (.+)$/.exec(cell.trim()) ?? [];
  test(`${file} has "${name}"`, () => {
    const place = new URL(`../${file}`, import.meta.url);
    assert.ok(name !== "" && existsSync(place), cell);
    const literal = name.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
    assert.match(readFileSync(place, "utf8"), new RegExp(`\\b(?:test|describe)\\(\\s*"${literal}"`), cell);
  });
}
