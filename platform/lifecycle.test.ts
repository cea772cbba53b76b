import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { waitFor } from "./testing.ts";

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a main in a process of its own; `act` gets the child once it has printed `up`. */
async function runChild(
  body: string,
  act: (kill: (signal: NodeJS.Signals) => void, closeInput: () => void, err: () => string) => Promise<void> | void,
  options = "{}",
): Promise<Ended> {
  const script = `
    import { runMain, StartupError } from ${JSON.stringify(import.meta.resolve("./lifecycle.ts"))};
    import { sleep, untilAborted } from ${JSON.stringify(import.meta.resolve("./clock.ts"))};
    await runMain("thing", async (signal, stack) => { ${body} }, ${options});`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", script], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  await waitFor(() => out.includes("up") || child.exitCode !== null);
  await act(
    (signal) => child.kill(signal),
    () => child.stdin.end(),
    () => err,
  );
  return { code: await ended, out, err };
}

const layered = `stack.defer(() => console.log("first")); stack.defer(async () => { await sleep(5); console.log("second"); }); console.log("up"); await untilAborted(signal);`;

test("SIGTERM puts everything away in reverse order and exits 0", async () => {
  assert.deepEqual(await runChild(layered, (kill) => kill("SIGTERM")), { code: 0, out: "up\nsecond\nfirst\n", err: "" });
});

test("SIGINT that comes twice at once is one", async () => {
  const ended = await runChild(layered, (kill) => {
    kill("SIGINT");
    kill("SIGINT");
  });
  assert.deepEqual(ended, { code: 0, out: "up\nsecond\nfirst\n", err: "" });
});

test("a second signal exits at once", async () => {
  const slow = `stack.defer(async () => { console.error("stopping"); await sleep(60_000); }); console.log("up"); await untilAborted(signal);`;
  const ended = await runChild(slow, async (kill, _closeInput, err) => {
    kill("SIGTERM");
    await waitFor(() => err().includes("stopping"));
    // Only a later signal counts as a second one: send until it does.
    const again = setInterval(() => kill("SIGINT"), 50);
    setTimeout(() => clearInterval(again), 1_000).unref();
  });
  assert.equal(ended.code, 130);
});

test("what does not stop is left behind at the deadline", async () => {
  const stuck = `stack.defer(() => new Promise(() => undefined)); setInterval(() => undefined, 1000); console.log("up"); await untilAborted(signal);`;
  const ended = await runChild(stuck, (kill) => kill("SIGTERM"), "{ stopDeadlineMs: 50 }");
  assert.equal(ended.code, 1);
  assert.match(ended.err, /stopping took more than 50 ms/);
});

test("the main's number is the exit code, whatever handles are left", async () => {
  assert.equal((await runChild(`setInterval(() => undefined, 1000); console.log("up"); return 7;`, () => undefined)).code, 7);
});

test("a refusal to start is one sentence; a fault has its stack; both put away what was opened", async () => {
  const refusal = await runChild(
    `stack.defer(() => console.log("away")); throw new StartupError("port 8008 is taken: choose another");`,
    () => undefined,
  );
  assert.deepEqual(refusal, { code: 1, out: "away\n", err: "thing: port 8008 is taken: choose another\n" });
  const fault = await runChild(
    `stack.defer(() => console.log("away")); setImmediate(() => { throw new TypeError("oops"); }); await untilAborted(signal);`,
    () => undefined,
  );
  assert.equal(fault.code, 1);
  assert.equal(fault.out, "away\n");
  assert.match(fault.err, /^thing: TypeError: oops\n {4}at /);
});

test("ends when its parent's pipe closes", async () => {
  assert.deepEqual(await runChild(layered, (_kill, closeInput) => closeInput(), "{ exitWithParent: true }"), {
    code: 0,
    out: "up\nsecond\nfirst\n",
    err: "",
  });
});
