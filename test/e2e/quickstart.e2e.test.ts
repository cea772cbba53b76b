// The quick start, word by word: every command of docs/quickstart.md as it stands there, on a real `npm start`, and what it
// prints beside what the page says. Only the ports are others, since those of the page may be taken here.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openRunFolder } from "#platform/tempdir.ts";
import { findUpPorts, openUp, type UpProcess } from "../harness/up.ts";
import { waitUntil } from "../harness/wait.ts";

interface Block {
  readonly language: string;
  readonly text: string;
}

interface Step {
  readonly title: string;
  readonly run: Block;
  /** What it prints, according to the page. */
  readonly prints: string | undefined;
}

const root = fileURLToPath(new URL("../../", import.meta.url));
const page = readFileSync(join(root, "docs/quickstart.md"), "utf8");
const commandMs = 120_000;
const stack = new AsyncDisposableStack();
let folder: string;
let up: UpProcess;
let ports: Awaited<ReturnType<typeof findUpPorts>>;

/** Blocks of code under their headings, each with the `text` that follows it. */
function readSteps(): readonly Step[] {
  const steps: Step[] = [];
  let title = "";
  let before: Block | undefined;
  for (const found of page.matchAll(/^## (?<title>.+)$|^```(?<language>\w+)\n(?<text>[^]*?)^```$/gm)) {
    const { title: heading, language = "", text = "" } = found.groups ?? {};
    if (heading !== undefined) title = heading;
    else if (language === "text") {
      assert.ok(before !== undefined, `what is printed under '${title}' follows a command`);
      steps.push({ ...steps.pop()!, prints: text });
    } else {
      before = { language, text };
      steps.push({ title, run: before, prints: undefined });
    }
  }
  return steps;
}

/** `...` stands for anything; a line of it alone for any lines. Spaces in tables are as many as they are. */
function formOf(prints: string): RegExp {
  const lines = prints.trimEnd().split("\n");
  const parts = lines.map((line, at) => {
    const last = at === lines.length - 1;
    if (line.trim() === "...") return "(?:[^\\n]*\\n)*?";
    const words = line
      .trim()
      .split("...")
      .map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll(/ +/g, " +"));
    return `[ \\t]*${words.join("[^\\n]*")}[ \\t\\r]*${last ? "" : "\\n"}`;
  });
  return new RegExp(`^${parts.join("")}`, "m");
}

function withPorts(text: string): string {
  return text.replaceAll(":8008", `:${ports.http}`).replaceAll(":8033", `:${ports.grpc}`).replaceAll(":8080", `:${ports.admin}`);
}

async function run({ language, text }: Block): Promise<string> {
  const [command, ...args] =
    language === "python" ? ["python3", "-c", withPorts(text)] : ["bash", "-euo", "pipefail", "-c", withPorts(text)];
  const child = spawn(command, args, {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, WARMPATH_URL: `http://127.0.0.1:${ports.admin}` },
    timeout: commandMs,
  });
  let out = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (out += chunk.toString()));
  await once(child, "close");
  return out;
}

const steps = readSteps();
const middle = steps.slice(1, -1);

before(async () => {
  folder = stack.use(await openRunFolder()).path;
  ports = await findUpPorts();
});
after(() => stack.disposeAsync());

test("the page begins with npm start, and ends with a run of it that proves itself", () => {
  assert.equal(steps[0]?.run.text.trim(), "npm start");
  assert.equal(steps.at(-1)?.run.text.trim(), "npm start -- --for 10s");
  assert.ok(middle.length >= 9);
  for (const { title, prints } of middle.filter(({ run }) => !run.text.includes("revisionStates"))) {
    assert.ok(prints !== undefined, `a command under '${title}' says what it prints`);
  }
});

test(steps[0]!.title, async () => {
  up = stack.use(await openUp({ stateFolder: join(folder, "state"), tempFolder: folder, ports }));
  await up.whenUp();
  const said = await waitUntil(
    "the welcome is whole",
    () => up.stdout.join("\n"),
    (text) => text.includes("management"),
  );
  assert.match(said, formOf(withPorts(steps[0]!.prints!)));
});

for (const { title, run: block, prints = "" } of middle) {
  test(`${title}: ${block.text.trim().split("\n")[0]!.slice(0, 90)}`, { timeout: commandMs }, async () => {
    const out = await run(block);
    assert.match(out, formOf(withPorts(prints)));
  });
}

test("the model's name moved to its new revision and back without a failed request", async () => {
  const answer = await fetch(`http://127.0.0.1:${ports.admin}/api/v1/models/mine`);
  const { revisions, active } = (await answer.json()) as {
    revisions: readonly { id: string; storageUri: string }[];
    active: string;
  };
  assert.match(revisions.find(({ id }) => id === active)!.storageUri, /iris-t0007/);
  assert.ok(revisions.some(({ storageUri }) => storageUri.includes("iris-t0008")));
});

test(steps.at(-1)!.title, { timeout: commandMs }, async () => {
  up.interrupt();
  const { code } = await up.exited;
  assert.equal(code, 0);
  const proving = await openUp({ stateFolder: join(folder, "state"), tempFolder: folder, ports, flags: ["--for", "10s"] });
  stack.use(proving);
  assert.equal((await proving.exited).code, 0);
  assert.match(proving.stdout.join("\n"), formOf(steps.at(-1)!.prints!));
});
