// What a real controller's process tells a scraper, over a real API server: in a form that the reference parser and the
// linter accept, and with the work that it has done.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { findFreePorts } from "#cli/up/ports.ts";
import { superviseProcess } from "#platform/process.ts";
import { lintFamilies, parseExposition } from "../harness/exposition.ts";
import { openFleet } from "../harness/fleet.ts";
import { lintScrape } from "../harness/promtool.ts";
import { waitUntil } from "../harness/wait.ts";
import { openControlPlane } from "./harness/controlplane.ts";
import { applyCrds } from "./harness/crds.ts";
import { buildInferenceService, onnxRuntime } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;

test("a controller tells what it leads, knows, has to do and has done", { skip }, async () => {
  await using stack = new AsyncDisposableStack();
  const plane = stack.use(await openControlPlane());
  await applyCrds(plane.kubectl);
  const fleet = stack.use(await openFleet({ pods: 1 }));
  const [port = 0] = (await findFreePorts("127.0.0.1", 30)).slice(29);
  const flags = {
    kubeconfig: plane.kubeconfig,
    namespace: "default",
    registry: fleet.registryFile,
    gateways: fleet.adminUrl,
    image: "warmpath.test/warmpath:test",
    "adapter-registry": '["--registry","etcd://etcd:2379/warmpath"]',
    "health-port": port,
  };
  const main = fileURLToPath(new URL("../../controller/main.ts", import.meta.url));
  const args = [main, ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`])];
  const restart = { kind: "never" } as const;
  stack.use(superviseProcess({ name: "controller", command: process.execPath, args, restart }));
  const scrape = async (): Promise<string> =>
    await fetch(`http://127.0.0.1:${port}/metrics`).then(
      (answer) => answer.text(),
      () => "",
    );
  await waitUntil("it leads and knows everything", scrape, (text) => text.includes("warmpath_controller_synced 1"), 60_000);
  await plane.kubectl.apply(onnxRuntime());
  const artefact = pathToFileURL(join(fleet.libraryFolder, "models/iris/iris-t0001.onnx")).href;
  await plane.kubectl.apply(buildInferenceService("counted", artefact));
  await waitUntil(
    "the model is loaded",
    () => plane.kubectl.get("isvc", "counted"),
    (it) => it?.status?.modelStatus?.states?.activeModelState === "Loaded",
    60_000,
  );
  type Labels = Readonly<Record<string, string>>;
  const find = (families: ReturnType<typeof parseExposition>, name: string, labels: Labels = {}): readonly number[] =>
    families
      .flatMap((family) => family.samples)
      .filter((sample) => sample.name === name && Object.entries(labels).every(([key, of]) => sample.labels[key] === of))
      .map((sample) => sample.value);
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const families = await waitUntil(
    "nothing is left to do",
    async () => parseExposition(await scrape(), "text"),
    (seen) =>
      sum(find(seen, "warmpath_controller_reconciles_total", { kind: "runtime" })) >= 1 &&
      sum(find(seen, "warmpath_controller_reconciles_total", { kind: "model" })) >= 2 &&
      sum(find(seen, "warmpath_controller_queued")) === 0,
    60_000,
  );
  assert.deepEqual(lintFamilies(families), []);
  assert.deepEqual(await lintScrape(await scrape()), []);
  const value = (name: string, labels: Labels = {}): number => {
    const found = find(families, name, labels);
    assert.ok(found.length > 0, `${name} ${JSON.stringify(labels)} is there`);
    return sum(found);
  };
  assert.equal(value("warmpath_controller_leading"), 1);
  assert.equal(value("warmpath_controller_objects", { kind: "inferenceservice" }), 1);
  assert.ok(value("warmpath_controller_objects", { kind: "runtime" }) >= 1);
  assert.ok(value("warmpath_controller_reconcile_seconds_count", { kind: "model" }) >= 2);
  assert.ok(value("warmpath_controller_api_calls_total", { kind: "write" }) >= 1);
  assert.ok(value("process_resident_memory_bytes") > 0);
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/readyz`)).text(), "leading\n");
});
