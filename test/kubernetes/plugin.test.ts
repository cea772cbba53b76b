// The command line as a plug-in of the real kubectl, installed under the name that package.json gives it.
import assert from "node:assert/strict";
import { readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openAdminBench } from "#gateway/admin/testing.ts";
import { silentLog } from "#platform/log.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { createAuthority, writeIdentity } from "#platform/tls/authority.ts";
import { openPems } from "#platform/tls/pems.ts";
import { runCommand } from "./harness/kubectl.ts";
import { findPrograms, whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const root = new URL("../../", import.meta.url);

test("kubectl warmpath asks a gateway over TLS, passes options on and ends with the command's exit code", { skip }, async () => {
  await using folder = await openRunFolder();
  const { bin } = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as { bin: Readonly<Record<string, string>> };
  symlinkSync(fileURLToPath(new URL(bin["kubectl-warmpath"]!, root)), join(folder.path, "kubectl-warmpath"));
  const kubectl = join(await findPrograms(), "kubectl");
  const authority = await createAuthority("management", 3_600_000);
  const files = await writeIdentity(
    join(folder.path, "tls"),
    authority.cert,
    await authority.issue(["localhost", "127.0.0.1"], 3_600_000),
  );
  using tls = await openPems({ certFile: files.cert, keyFile: files.key, log: silentLog });
  await using bench = await openAdminBench({ pods: 1, tls });
  const distrusting = {
    PATH: `${folder.path}:${process.env["PATH"]}`,
    WARMPATH_URL: (await bench.app.listen({ host: "127.0.0.1", port: 0 })).replace("http:", "https:"),
  };
  const env = { ...distrusting, WARMPATH_CA_FILE: files.ca };
  const run = (...args: readonly string[]) => runCommand(kubectl, args, undefined, env);

  assert.match((await run("plugin", "list")).stdout, /kubectl-warmpath/);
  const listed = await run("warmpath", "pods", "list", "--json");
  assert.equal(listed.code, 0, listed.stderr);
  assert.equal((JSON.parse(listed.stdout) as { pods: readonly { podId: string }[] }).pods[0]?.podId, "pod-0");
  const refused = await runCommand(kubectl, ["warmpath", "pods", "list"], undefined, distrusting);
  assert.equal(refused.code, 5);
  assert.match(refused.stderr, /^warmpath: the certificate of https:\S+ is not trusted .*--ca-file or WARMPATH_CA_FILE/m);
  const missing = await run("warmpath", "models", "get", "nope");
  assert.equal(missing.code, 3);
  assert.match(missing.stderr, /^warmpath: no model 'nope' is registered/m);
  assert.doesNotMatch(missing.stderr, /\n {4}at /);
});
