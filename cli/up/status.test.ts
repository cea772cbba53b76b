import assert from "node:assert/strict";
import { test } from "node:test";
import type { Stats } from "./management.ts";
import { createScreen, createScreenLog } from "./status.ts";

const stats: Stats = {
  models: 5,
  warm: 1,
  loading: 0,
  queued: 0,
  waiting: 0,
  hits: 3,
  misses: 1,
  reroutes: 0,
  refused: 0,
  failed: 0,
  javascriptRequests: 1,
  evictions: 0,
  loads: 1,
  loadFailures: 0,
  capacityBytes: 100,
  usedBytes: 10,
};

/** What stands on a terminal in the end: it knows the two sequences that the screen uses. */
function shownBy(written: string): readonly string[] {
  const lines = [""];
  // oxlint-disable-next-line no-control-regex -- what the screen writes
  for (const [, up, text] of written.matchAll(/\u001B\[(\d+)A\u001B\[0J|([^\u001B]+)/g)) {
    if (up !== undefined) lines.splice(lines.length - 1 - Number(up), Number(up));
    const [first = "", ...more] = (text ?? "").split("\n");
    lines.push(`${lines.pop() ?? ""}${first}`, ...more);
  }
  return lines;
}

test("what goes wrong stays on the terminal, above one block that is redrawn", () => {
  let written = "";
  const screen = createScreen({ isTTY: true, columns: 100, write: (text: string) => ((written += text), true) });
  const log = createScreenLog(screen, () => new Date(2026, 0, 2, 3, 4, 5));
  screen.say("welcome");
  screen.show({ stats, atMs: 0 });
  screen.show({ stats, atMs: 1_000 });
  log.info("a process is up", { process: "gateway" });
  log.warn("a process ended and is started again", { process: "gateway", exit: "killed by SIGKILL" });
  screen.show({ stats, atMs: 2_000 });
  log.with({ process: "pod-0" }).error("a log cannot be written", { error: new Error("no space") });
  screen.show({ stats, atMs: 3_000 });
  assert.deepEqual(
    shownBy(written).map((line) => line.slice(0, 7).trim()),
    ["welcome", "03:04:0", "03:04:0", "models", "memory", "hits", "misses", ""],
  );
  assert.match(written, /03:04:05 {2}a process ended and is started again: process gateway, exit killed by SIGKILL\n/);
  assert.match(written, /03:04:05 {2}a log cannot be written: process pod-0, error no space\n/);
});
