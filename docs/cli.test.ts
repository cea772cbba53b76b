// docs/cli.md is held to the commands. With UPDATE_DOCS=1 it is written anew instead.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { describeCommands } from "#cli/manage/reference.ts";
import { buildProgram } from "#cli/program.ts";

const file = new URL("cli.md", import.meta.url);
const marker = "<!-- commands -->\n";

function unpad(text: string): string {
  return text
    .replaceAll(/ *\| */g, " | ")
    .replaceAll(/-{3,}/g, "---")
    .trim();
}

test("docs/cli.md is what the commands say", async () => {
  await using stack = new AsyncDisposableStack();
  const program = buildProgram({
    env: {},
    isTerminal: false,
    width: 120,
    print: () => undefined,
    signal: new AbortController().signal,
    stack,
    setExitCode: () => undefined,
  });
  const text = readFileSync(file, "utf8");
  const at = text.indexOf(marker);
  assert.ok(at >= 0, `docs/cli.md has a line ${marker}`);
  const wanted = describeCommands(program);
  const found = text.slice(at + marker.length);
  if (unpad(found) !== unpad(wanted) && process.env["UPDATE_DOCS"] === "1") {
    return writeFileSync(file, `${text.slice(0, at)}${marker}\n${wanted}`);
  }
  return assert.equal(unpad(found), unpad(wanted), "run `UPDATE_DOCS=1 npm test -- docs/cli`");
});
