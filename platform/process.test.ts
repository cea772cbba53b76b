import assert from "node:assert/strict";
import { test } from "node:test";
import { type ProcessOptions, type ProcessState, superviseProcess } from "./process.ts";
import { waitFor } from "./testing.ts";

const orderly = `process.stdin.on("end", () => process.exit(0)).resume(); process.on("SIGTERM", () => process.exit(0)); console.log("listening"); setInterval(() => {}, 1000);`;

function node(script: string): Pick<ProcessOptions, "command" | "args" | "name"> {
  return { name: "child", command: process.execPath, args: ["--eval", script] };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("ready at its line, stopped in order", async () => {
  const states: ProcessState["kind"][] = [];
  const lines: string[] = [];
  await using child = superviseProcess({
    ...node(orderly),
    readyLine: /^listening$/,
    onState: ({ kind }) => states.push(kind),
    onOutput: (line, stream) => lines.push(`${stream} ${line}`),
  });
  await child.ready;
  assert.equal(child.state.kind, "ready");
  const { pid } = child;
  assert.ok(pid !== undefined && isAlive(pid));
  await Promise.all([child.stop(), child.stop()]);
  assert.equal(isAlive(pid), false);
  assert.deepEqual(states, ["starting", "ready", "stopping", "stopped"]);
  assert.deepEqual(lines, ["stdout listening"]);
});

test("killed, it starts again, and is ready again", async () => {
  const exits: (string | null)[] = [];
  await using child = superviseProcess({
    ...node(orderly),
    readyLine: /listening/,
    restart: { kind: "always", firstMs: 1 },
    onExit: (exit) => exits.push(exit.signal),
  });
  await child.ready;
  const first = child.pid;
  assert.ok(first !== undefined);
  process.kill(first, "SIGKILL");
  await waitFor(() => child.state.kind === "ready" && child.pid !== first);
  assert.equal(child.restarts, 1);
  assert.deepEqual(exits, ["SIGKILL"]);
});

test("pauses between restarts grow to a bound", async () => {
  const pauses: number[] = [];
  await using _child = superviseProcess({
    ...node("process.exit(3)"),
    readyLine: /never/,
    restart: { kind: "always", firstMs: 1, longestMs: 4 },
    onState: (state) => state.kind === "waiting" && pauses.push(state.forMs),
  });
  await waitFor(() => pauses.length >= 5);
  assert.deepEqual(pauses.slice(0, 5), [1, 2, 4, 4, 4]);
});

test("without restart the exit is told and ready rejects", async () => {
  await using child = superviseProcess({
    ...node("console.error('no way'); process.exit(3)"),
    readyLine: /never/,
    restart: { kind: "never" },
  });
  await assert.rejects(child.ready, /child ended before it was ready: exit code 3/);
  assert.deepEqual(child.state, { kind: "failed", exit: { code: 3, signal: null } });
});

test("a program that is not there is told", async () => {
  await using child = superviseProcess({ name: "ghost", command: "/nonexistent/program", restart: { kind: "never" } });
  await assert.rejects(child.ready, /ghost could not be started: .*ENOENT/);
});

test("one that ignores SIGTERM is killed with its group", async () => {
  const script = `
    process.on("SIGTERM", () => {});
    const inner = require("node:child_process").spawn("sleep", ["60"]);
    console.log("inner " + inner.pid);
    setInterval(() => {}, 1000);`;
  let inner = 0;
  await using child = superviseProcess({
    ...node(script),
    readyLine: /inner/,
    onOutput: (line) => (inner = Number(line.split(" ")[1])),
  });
  await child.ready;
  assert.ok(isAlive(inner));
  await child.stop(50);
  await waitFor(() => !isAlive(inner));
});

test("one that is not ready in time is killed", async () => {
  await using child = superviseProcess({
    ...node("setInterval(() => {}, 1000)"),
    readyLine: /never/,
    readyTimeoutMs: 100,
    restart: { kind: "never" },
  });
  await assert.rejects(child.ready, /child was not ready within 100 ms/);
});

test("a probe decides, and its failures mean not yet", async () => {
  let asked = 0;
  const readyProbe = async (): Promise<boolean> => {
    asked += 1;
    if (asked === 1) throw new Error("not listening so far");
    return asked > 2;
  };
  await using child = superviseProcess({ ...node(orderly), readyProbe });
  await child.ready;
  assert.equal(asked, 3);
});

test("stops with the signal, also during a pause", async () => {
  const stop = new AbortController();
  await using child = superviseProcess({
    ...node("process.exit(1)"),
    readyLine: /never/,
    restart: { kind: "always", firstMs: 60_000, longestMs: 60_000 },
    signal: stop.signal,
  });
  await waitFor(() => child.state.kind === "waiting");
  stop.abort();
  await waitFor(() => child.state.kind === "stopped");
  await assert.rejects(child.ready, /stopped before it was ready/);
});

test("a killed supervisor leaves no child", async () => {
  const script = `
    import { superviseProcess } from ${JSON.stringify(import.meta.resolve("./process.ts"))};
    const child = superviseProcess({ name: "inner", command: process.execPath, args: ["--eval", ${JSON.stringify(orderly)}], readyLine: /listening/ });
    await child.ready;
    console.log("inner " + child.pid);`;
  let inner = 0;
  await using supervisor = superviseProcess({
    name: "supervisor",
    command: process.execPath,
    args: ["--input-type=module-typescript", "--eval", script],
    readyLine: /inner/,
    restart: { kind: "never" },
    onOutput: (line) => (inner = Number(line.split(" ")[1])),
  });
  await supervisor.ready;
  assert.ok(supervisor.pid !== undefined && isAlive(inner));
  process.kill(supervisor.pid, "SIGKILL");
  await waitFor(() => !isAlive(inner));
});
