// Every defect on docs/predecessor.md, and everything that ModelMesh's own tests ask for, has a test of that name in that file.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const rows = Array.from(
  readFileSync(new URL("predecessor.md", import.meta.url), "utf8").matchAll(/^\| .+? \| `([^`]+)` +\| (.+?) *\|$/gm),
  ([, file = "", name = ""]) => ({ file, name }),
);

test("each defect of the predecessor, and what its own tests ask for, has its test", () => {
  assert.ok(rows.length > 70, `${rows.length} rows`);
  const missing = rows.filter(({ file, name }) => !readFileSync(new URL(`../${file}`, import.meta.url), "utf8").includes(name));
  assert.deepEqual(missing, []);
});
