// Measures real sessions in a child process and holds the estimate to within 30 % of them.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { scanModelFile } from "./scan.ts";
import { estimateSizeBytes } from "./sizes.ts";
import { addSubGraph, forestGraph, perceptronGraph } from "./testing/graphs.ts";

const run = promisify(execFile);
const script = fileURLToPath(new URL("testing/measure-sizes.ts", import.meta.url));
const tolerance = 0.3;

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "warm-onnx-"));
});
after(async () => rm(folder, { recursive: true, force: true }));

const models: readonly [string, () => Uint8Array, number][] = [
  ["a sum and a difference", addSubGraph, 1_000],
  ["a small perceptron", () => perceptronGraph([64, 128, 64, 10]), 400],
  ["a large perceptron", () => perceptronGraph([784, 256, 128, 10]), 100],
  ["a graph of many nodes", () => perceptronGraph(Array.from({ length: 51 }, () => 4)), 200],
  ["a small forest", () => forestGraph(10, 4), 300],
  ["a large forest", () => forestGraph(50, 8), 30],
];

for (const [name, build, sessions] of models) {
  test(`the size of ${name}`, async () => {
    const path = join(folder, "m.onnx");
    await writeFile(path, build());
    const { stdout } = await run(process.execPath, ["--expose-gc", script, path, String(sessions)], {
      env: { ...process.env, MALLOC_TRIM_THRESHOLD_: "131072" },
    });
    const { bytesPerSession } = JSON.parse(stdout) as { bytesPerSession: number };
    const estimate = estimateSizeBytes(await scanModelFile(path));
    const ratio = estimate / bytesPerSession;
    assert.ok(Math.abs(ratio - 1) < tolerance, `estimated ${estimate}, measured ${Math.round(bytesPerSession)} bytes`);
  });
}
