// Set-up is plain JavaScript for old Nodes; its parts are imported by name with the types they are used at.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";

type Packages = Record<string, { version: string; integrity?: string }>;
interface Machine {
  platform: string;
  arch: string;
  exists: (path: string) => boolean;
}
interface Step {
  name: string;
  seconds: number;
  run: (report: (share: number) => void) => Promise<unknown>;
}
interface Out {
  isTTY?: boolean;
  columns?: number;
  write: (text: string) => void;
}

const load = async <T>(name: string): Promise<T> => (await import(import.meta.resolve(`./${name}.mjs`))) as T;
const { checkMachine } = await load<{ checkMachine: (machine: Machine) => void }>("checks");
const { stampServes, findStray } = await load<{
  stampServes: (stamp: string | undefined, hash: string, dev: boolean) => boolean;
  findStray: (locked: Packages, installed: Packages) => string | undefined;
}>("packages");
const { holdLock } = await load<{
  holdLock: (onWait: (pid: string) => void, folder: string, limitMs?: number) => Promise<{ release: () => void }>;
}>("lock");
const { makeFolder } = await load<{ makeFolder: (folder: string) => void }>("folder");
const { createProgress } = await load<{
  createProgress: (steps: Step[], silent: boolean, out: Out) => { runAll: () => Promise<void>; end: () => void };
}>("progress");

for (const [machine, message] of [
  [{ platform: "darwin", arch: "arm64", exists: () => true }, /runs on Linux, not on darwin: use/],
  [{ platform: "linux", arch: "riscv64", exists: () => true }, /x64 and arm64 processors, not on riscv64: use/],
  [{ platform: "linux", arch: "x64", exists: () => false }, /no GNU C library .* use a distribution with glibc/],
] as const) {
  test(`one sentence for ${machine.platform} ${machine.arch}`, () =>
    assert.throws(() => checkMachine(machine), { name: "SetupError", message }));
}

test("a folder is made with those above it; where none can be, that is an error and no endless loop", async () => {
  await using run = await openRunFolder();
  makeFolder(join(run.path, "a", "b"));
  makeFolder(join(run.path, "a", "b"));
  assert.ok(existsSync(join(run.path, "a", "b")));
  writeFileSync(join(run.path, "file"), "");
  assert.throws(() => makeFolder(join(run.path, "file")), { code: "ENOTDIR" });
  assert.throws(() => makeFolder(join(run.path, "file", "c")), { code: "ENOTDIR" });
  assert.throws(() => makeFolder("/proc/none/such"), { code: "ENOENT" });
});

test("a full install serves every command, a smaller one only those without development packages", () => {
  assert.deepEqual(
    [stampServes("h full", "h", true), stampServes("h full", "h", false), stampServes("h runtime", "h", false)],
    [true, true, true],
  );
  assert.deepEqual(
    [stampServes("h runtime", "h", true), stampServes("old full", "h", false), stampServes(undefined, "h", false)],
    [false, false, false],
  );
});

test("a package that is not the locked one is found", () => {
  const locked: Packages = { "node_modules/a": { version: "1.0.0", integrity: "x" }, "node_modules/b": { version: "1.0.0" } };
  assert.equal(findStray(locked, { "node_modules/a": { version: "1.0.0", integrity: "x" } }), undefined);
  assert.equal(findStray(locked, { "node_modules/a": { version: "1.0.0", integrity: "y" } }), "a 1.0.0");
  assert.equal(findStray(locked, { "node_modules/b/node_modules/@s/c": { version: "2.0.0" } }), "@s/c 2.0.0");
});

test("one set-up at a time; a lock whose holder is gone is taken over", async () => {
  await using folder = await openRunFolder();
  const first = await holdLock(() => undefined, folder.path);
  let waited = "";
  const second = holdLock((pid) => (waited = pid), folder.path);
  await waitFor(() => waited === String(process.pid));
  await assert.rejects(
    holdLock(() => undefined, folder.path, 0),
    { name: "SetupError", message: /stop it, then start again/ },
  );
  first.release();
  (await second).release();
  assert.equal(existsSync(join(folder.path, "setup.lock")), false);

  const gone = spawn("true");
  await once(gone, "exit");
  writeFileSync(join(folder.path, "setup.lock"), `${gone.pid} 12345\n`);
  (await holdLock(() => assert.fail("waited for a process that is gone"), folder.path)).release();
});

const step: Step = { name: "packages", seconds: 1, run: async (report) => report(0.5) };

test("progress is one live line on a terminal, a line per event elsewhere, nothing when silent", async () => {
  const show = async (silent: boolean, isTTY: boolean): Promise<string> => {
    let shown = "";
    const progress = createProgress([step, { ...step, name: "Envoy" }], silent, {
      isTTY,
      columns: 60,
      write: (text) => (shown += text),
    });
    await progress.runAll();
    progress.end();
    return shown;
  };
  const live = await show(false, true);
  assert.equal(live.includes("\n"), false);
  assert.match(live, /█+░+ Envoy, 0 s/);
  assert.ok(live.endsWith("\r\u001B[K"), "the line is gone at the end");
  const plain = await show(false, false);
  assert.deepEqual(
    plain
      .replaceAll(/\d+\.\d s/g, "0 s")
      .trimEnd()
      .split("\n"),
    [
      "Setting up 1/2: packages ...",
      "Setting up 1/2: packages done in 0 s",
      "Setting up 2/2: Envoy ...",
      "Setting up 2/2: Envoy done in 0 s",
    ],
  );
  assert.equal(await show(true, true), "");
});
