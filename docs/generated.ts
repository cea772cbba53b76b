// Owns how a page's generated part is held to what it is generated from: compared without the spaces that the formatter puts
// into tables, and written anew with UPDATE_DOCS=1.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";

/** The part behind the line `mark`, to the end of the page. */
export function holdToEnd(page: string, mark: string, wanted: string): void {
  const file = new URL(page, import.meta.url);
  const text = readFileSync(file, "utf8");
  const at = text.indexOf(`${mark}\n`);
  assert.ok(at >= 0, `docs/${page} has a line ${mark}`);
  const found = text.slice(at + mark.length);
  if (unpad(found) !== unpad(wanted) && process.env["UPDATE_DOCS"] === "1") {
    writeFileSync(file, `${text.slice(0, at)}${mark}\n\n${wanted.trim()}\n`);
    return;
  }
  assert.equal(unpad(found), unpad(wanted), `run \`UPDATE_DOCS=1 npm test -- docs/\``);
}

function unpad(text: string): string {
  return text
    .replaceAll(/ *\| */g, " | ")
    .replaceAll(/-{3,}/g, "---")
    .trim();
}
