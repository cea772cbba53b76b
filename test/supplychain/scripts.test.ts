// No package runs anything when it is installed: none needs to. Who brings a new script along is noticed.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { openRunFolder } from "#platform/tempdir.ts";
import { findFiles, npmPackages, readText } from "./sources.ts";

const run = promisify(execFile);

/** Those that would like to: buf checks its download, ONNX Runtime fetches CUDA, protobufjs warns of versions. */
const reviewed = ["@bufbuild/buf", "onnxruntime-node", "protobufjs"];

test("the packages that have an install script are those that were looked at", () => {
  const found = npmPackages("package-lock.json").filter(({ hasInstallScript }) => hasInstallScript);
  assert.deepEqual(
    found.map(({ name }) => name).toSorted((a, b) => (a < b ? -1 : 1)),
    reviewed,
  );
});

test("every installation in the repository says that none is run", () => {
  const files = [...findFiles(/\.(ts|mjs|sh|ya?ml)$/), "Dockerfile"].filter((file) => !file.startsWith("test/supplychain/"));
  const installs = files.flatMap((file) => {
    const text = readText(file).replaceAll(/\\\n\s*/g, " ");
    return Array.from(
      text.matchAll(/\bnpm (?:ci|install)\b[^\n]*|"npm", \[\s*"(?:ci|install)"[^\]]*\]|const args = \[\s*"install"[^\]]*\]/g),
      ([call]) => ({ file, call }),
    );
  });
  const commands = installs.filter(({ call }) => call.includes("--") || call.startsWith("const args"));
  assert.ok(commands.length >= 4, `${commands.length} were found`);
  for (const { file, call } of commands) assert.match(call, /--ignore-scripts/, `${file}: ${call}`);
});

test("the repository's settings hold npm to it, whoever calls it", async () => {
  await using folder = await openRunFolder();
  const [project, dependency] = [join(folder.path, "project"), join(folder.path, "dependency")];
  await mkdir(project);
  await mkdir(dependency);
  const touch = (name: string): string => `node -e "require('node:fs').writeFileSync('${join(folder.path, name)}', '')"`;
  await writeFile(
    join(dependency, "package.json"),
    JSON.stringify({
      name: "dependency",
      version: "1.0.0",
      scripts: { preinstall: touch("ran-pre"), postinstall: touch("ran-post") },
    }),
  );
  const manifest = {
    name: "project",
    version: "1.0.0",
    scripts: { prepare: touch("ran-own") },
    dependencies: { dependency: "file:../dependency" },
  };
  await writeFile(join(project, "package.json"), JSON.stringify(manifest));
  // Only the settings of the folder are to count.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_config_/i.test(name)));
  const install = async (): Promise<readonly string[]> => {
    await run("npm", ["install", "--offline", "--install-links"], { cwd: project, env });
    return (await readdir(folder.path)).filter((name) => name.startsWith("ran-"));
  };
  await copyFile(new URL("../../.npmrc", import.meta.url), join(project, ".npmrc"));
  assert.deepEqual(await install(), []);
  // The same without the settings: so it is they that hold it.
  await writeFile(join(project, ".npmrc"), "audit=false\nfund=false\n");
  await run("rm", ["-r", join(project, "node_modules"), join(project, "package-lock.json")]);
  assert.notDeepEqual(await install(), []);
});
