import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openRunFolder } from "./tempdir.ts";

test("private, short, gone at close", async () => {
  const folder = await openRunFolder();
  assert.equal(statSync(folder.path).mode & 0o777, 0o700);
  assert.ok(folder.path.length < 80, folder.path);
  writeFileSync(join(folder.path, "file"), "x");
  await folder[Symbol.asyncDispose]();
  assert.equal(existsSync(folder.path), false);
});

test("removes what a killed run left, and nothing else", async () => {
  await using parent = await openRunFolder();
  const script = `
    import { openRunFolder } from ${JSON.stringify(import.meta.resolve("./tempdir.ts"))};
    const folder = await openRunFolder({ parent: ${JSON.stringify(parent.path)} });
    console.log(folder.path);
    setInterval(() => undefined, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  mkdirSync(join(parent.path, "warmpath-other"));
  const [left] = readdirSync(parent.path).filter((name) => name !== "warmpath-other");
  assert.ok(left !== undefined);
  {
    await using _own = await openRunFolder({ parent: parent.path });
    assert.ok(existsSync(join(parent.path, left)), "its process lives");
  }
  child.kill("SIGKILL");
  await once(child, "exit");
  {
    await using _own = await openRunFolder({ parent: parent.path });
    assert.equal(existsSync(join(parent.path, left)), false);
  }
  assert.deepEqual(readdirSync(parent.path), ["warmpath-other"]);
});
