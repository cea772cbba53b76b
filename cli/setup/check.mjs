// Runs every static check (`npm run check`): types, lint, form, dead code. All of them run; one failure fails the whole.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "./root.mjs";

/** What the last run found out of files that have not changed since. */
const typesCache = join(root, "node_modules", ".cache", "types.tsbuildinfo");

const steps = [
  { name: "types", args: ["tsc", "--noEmit", "--project", ".", "--incremental", "--tsBuildInfoFile", typesCache] },
  { name: "lint", args: ["oxlint", "--type-aware", "--deny-warnings", "--config", ".oxlintrc.json", "."] },
  {
    name: "form",
    args: ["biome", "ci", "--linter-enabled=false", "--assist-enabled=false", "--colors=off", "--reporter=summary", "."],
  },
  { name: "dead code", args: ["knip", "--no-progress"] },
];

let failed = 0;
for (const { name, args } of steps) {
  const [program, ...rest] = args;
  const startedMs = performance.now();
  const path = `${join(root, "node_modules", ".bin")}:${process.env.PATH}`;
  const done = spawnSync(program, rest, { cwd: root, encoding: "utf8", env: { ...process.env, PATH: path } });
  const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
  if (done.status === 0) console.log(`${name}: ok (${seconds} s)`);
  else {
    failed += 1;
    console.log(`${done.stdout ?? ""}${done.stderr ?? ""}${done.error ?? ""}`.trimEnd());
    console.log(`${name}: FAILED (${seconds} s)`);
  }
}
console.log(failed === 0 ? "all checks passed" : `${failed} of ${steps.length} checks failed`);
process.exit(failed === 0 ? 0 : 1);
