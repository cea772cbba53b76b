// docs/errors.md is held to the catalogue in core/errors.ts. With UPDATE_DOCS=1 the table is written anew instead.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { describeErrors } from "#core/errors.ts";

const file = new URL("errors.md", import.meta.url);
const table = /^\| code .*\|\n(?:\|.*\n)*/m;

/** The formatter pads the columns of a table: that is no difference. */
function unpad(text: string): string {
  return text.replaceAll(/ *\| */g, " | ").replaceAll(/-{3,}/g, "---");
}

test("the table in docs/errors.md is what core/errors.ts says", () => {
  const text = readFileSync(file, "utf8");
  const [found] = table.exec(text) ?? [];
  assert.ok(found, "docs/errors.md has a table that begins with | code |");
  if (unpad(found) !== unpad(describeErrors()) && process.env["UPDATE_DOCS"] === "1") {
    return writeFileSync(
      file,
      text.replace(table, () => describeErrors()),
    );
  }
  return assert.equal(unpad(found), unpad(describeErrors()), "run `UPDATE_DOCS=1 npm test -- docs/errors`, then the formatter");
});
