// Owns the measurement of how far the hits of small models are disturbed by what else the server does: loads, slow runs.
// Hits come at a fixed rate, whether or not the server keeps up, and their time counts from when each was due.
// `node runtimes/onnx/testing/measure-isolation.ts [seconds] [hits per second] [server flag ...]`
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Pool } from "undici";
import { addSubGraph, forestGraph, loopGraph, perceptronGraph } from "./graphs.ts";
import { openServerProcess } from "./process.ts";

const [seconds = "5", rate = "200", ...flags] = process.argv.slice(2);
const smallModels = 20;

await using server = await openServerProcess(flags);
const pool = new Pool(`http://127.0.0.1:${server.restPort}`, { connections: 64 });

async function write(name: string, model: Uint8Array): Promise<string> {
  const path = join(server.folder, name);
  await writeFile(path, model);
  return path;
}

async function load(name: string, path: string): Promise<void> {
  const { status, body } = await server.admin("POST", `/v2/repository/models/${name}/load`, { parameters: { path } });
  if (status !== 200) throw new Error(`loading ${name}: ${status} ${JSON.stringify(body)}`);
}

async function ask(name: string, body: string): Promise<void> {
  const answer = await pool.request({ method: "POST", path: `/v2/models/${name}/infer`, body });
  if (answer.statusCode !== 200) throw new Error(await answer.body.text());
  await answer.body.dump();
}

const values = Array.from({ length: 16 }, (_, i) => i);
const small = JSON.stringify({ inputs: ["a", "b"].map((name) => ({ name, datatype: "INT32", shape: [1, 16], data: values })) });
const row = Array.from({ length: 64 }, () => 0.5);
const loop = (times: number): string =>
  JSON.stringify({
    inputs: [
      { name: "times", datatype: "INT64", shape: [], data: [times] },
      { name: "x", datatype: "FP32", shape: [1, 64], data: row },
    ],
  });

/** What goes on beside the hits until `more` says no; resolves to how often it was done. */
type Beside = (more: () => boolean) => Promise<number>;

async function measure(name: string, beside: Beside): Promise<void> {
  let on = true;
  const done = beside(() => on);
  await sleep(300);
  const count = Number(seconds) * Number(rate);
  const startMs = performance.now();
  const hits: Promise<number>[] = [];
  for (let at = 0; at < count; at++) {
    const dueMs = startMs + (at * 1_000) / Number(rate);
    const waitMs = dueMs - performance.now();
    if (waitMs > 1) await sleep(waitMs);
    hits.push(ask(`m${at % smallModels}`, small).then(() => performance.now() - dueMs));
  }
  const times = (await Promise.all(hits)).toSorted((a, b) => a - b);
  on = false;
  const at = (part: number): number => Number(times[Math.min(count - 1, Math.floor(count * part))]?.toFixed(2));
  const result = { name, beside: await done, p50Ms: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99), maxMs: at(1) };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

/** Loads and unloads the model again and again, at most `perSecond` times a second. */
function loads(path: string, perSecond: number): Beside {
  return async (more) => {
    let count = 0;
    const startMs = performance.now();
    for (; more(); count++) {
      await load("cold", path);
      await server.admin("POST", "/v2/repository/models/cold/unload");
      await sleep(Math.max(0, startMs + ((count + 1) * 1_000) / perSecond - performance.now()));
    }
    return count;
  };
}

const addSub = await write("small.onnx", addSubGraph());
for (let at = 0; at < smallModels; at++) await load(`m${at}`, addSub);
for (let at = 0; at < 2_000; at++) await ask(`m${at % smallModels}`, small);

await measure("alone", async () => 0);
await measure("loads of small models, 50/s", loads(addSub, 50));
await measure("loads of a forest of 20 ms, 5/s", loads(await write("forest.onnx", forestGraph(50, 8)), 5));
await measure("loads of a graph of 100 MB, 1/s", loads(await write("large.onnx", perceptronGraph([5_000, 5_000])), 1));

await load("slow", await write("slow.onnx", loopGraph()));
let times = 1_000;
for (let tookMs = 0; tookMs < 150; times *= 1.5) {
  const startMs = performance.now();
  await ask("slow", loop(Math.round(times)));
  tookMs = performance.now() - startMs;
}
await measure("a model whose runs take some 200 ms, one after another", async (more) => {
  let count = 0;
  for (; more(); count++) await ask("slow", loop(Math.round(times)));
  return count;
});
await pool.destroy();
