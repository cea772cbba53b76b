// The command line as a plug-in of the real kubectl, installed under the name that package.json gives it.
import assert from "node:assert/strict";
import { readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openAdminBench } from "#gateway/admin/testing.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { runCommand } from "./harness/kubectl.ts";
import { findPrograms, whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const root = new URL("../../", import.meta.url);

test("kubectl warmpath asks a gateway, passes options on and ends with the command's exit code", { skip }, async () => {
  await using folder = await openRunFolder();
  const { bin } = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as { bin: Readonly<Record<string, string>> };
  symlinkSync(fileURLToPath(new URL(bin["kubectl-warmpath"]!, root)), join(folder.path, "kubectl-warmpath"));
  const kubectl = join(await findPrograms(), "kubectl");
  await using bench = await openAdminBench({ pods: 1 });
  const env = {
    PATH: `${folder.path}:${process.env["PATH"]}`,
    WARMPATH_URL: await bench.app.listen({ host: "127.0.0.1", port: 0 }),
  };
  const run = (...args: readonly string[]) => runCommand(kubectl, args, undefined, env);

  assert.match((await run("plugin", "list")).stdout, /kubectl-warmpath/);
  const listed = await run("warmpath", "pods", "list", "--json");
  assert.equal(listed.code, 0, listed.stderr);
  assert.equal((JSON.parse(listed.stdout) as { pods: readonly { podId: string }[] }).pods[0]?.podId, "pod-0");
  const missing = await run("warmpath", "models", "get", "nope");
  assert.equal(missing.code, 3);
  assert.match(missing.stderr, /^warmpath: no model 'nope' is registered/m);
  assert.doesNotMatch(missing.stderr, /\n {4}at /);
});
