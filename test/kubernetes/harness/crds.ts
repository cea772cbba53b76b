// Owns the chart's own resource definitions as tests apply them.
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { waitUntil } from "#test/harness/wait.ts";
import type { Kubectl } from "./kubectl.ts";

export const chartFolder = join(import.meta.dirname, "../../../charts/warmpath");

/** Applies all of them and waits until objects of each may be written. */
export async function applyCrds(kubectl: Kubectl): Promise<void> {
  for (const file of globSync("crds/*.yaml", { cwd: chartFolder }))
    await kubectl.apply(readFileSync(join(chartFolder, file), "utf8"));
  await kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all");
  // Established a moment before it is served.
  for (const kind of [
    "servingruntimes",
    "clusterservingruntimes",
    "inferenceservices",
    "predictors",
    "models",
    "accesspolicies",
  ]) {
    await waitUntil(
      `${kind} are served`,
      async () => (await kubectl.run(["get", kind])).code,
      (code) => code === 0,
      60_000,
    );
  }
}
