// Owns the measurement of the request path: requests per second, latency and processor time per request of a tiny model over
// REST and gRPC, against a server process of its own. `node runtimes/onnx/testing/measure-requests.ts [seconds]`
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Pool } from "undici";
import { createClient } from "#platform/grpc.ts";
import { GRPCInferenceService, ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { addSubGraph } from "./graphs.ts";
import { openServerProcess } from "./process.ts";

const seconds = Number(process.argv[2] ?? 4);
const concurrency = 16;

/** User and system time of a process; the kernel counts in hundredths of a second. */
async function cpuMs(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function measure(name: string, pid: number, ask: () => Promise<unknown>): Promise<void> {
  const run = async (ms: number): Promise<number[]> => {
    const latencies: number[] = [];
    const endMs = performance.now() + ms;
    const worker = async (): Promise<void> => {
      while (performance.now() < endMs) {
        const startMs = performance.now();
        await ask();
        latencies.push(performance.now() - startMs);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
    return latencies.toSorted((a, b) => a - b);
  };
  await run(1_000);
  const before = await cpuMs(pid);
  const startMs = performance.now();
  const latencies = await run(seconds * 1_000);
  const elapsedMs = performance.now() - startMs;
  const count = latencies.length;
  const result = {
    name,
    rps: Math.round((count / elapsedMs) * 1_000),
    cpuUsPerRequest: Math.round((((await cpuMs(pid)) - before) * 1_000) / count),
    p50Ms: Number(latencies[count >> 1]?.toFixed(2)),
    p99Ms: Number(latencies[Math.floor(count * 0.99)]?.toFixed(2)),
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

await using server = await openServerProcess();
const path = join(server.folder, "m.onnx");
await writeFile(path, addSubGraph());
await server.admin("POST", "/v2/repository/models/m/load", { parameters: { path } });

const values = Array.from({ length: 16 }, (_, i) => i);
const body = JSON.stringify({ inputs: ["a", "b"].map((name) => ({ name, datatype: "INT32", shape: [1, 16], data: values })) });
const pool = new Pool(process.env["TARGET"] ?? `http://127.0.0.1:${server.restPort}`, { connections: concurrency });
const pid = Number(process.env["TARGET_PID"] ?? server.pid);
await measure("REST ready", pid, async () => (await pool.request({ method: "GET", path: "/v2/health/ready" })).body.dump());
await measure("REST infer", pid, async () => {
  const answer = await pool.request({ method: "POST", path: "/v2/models/m/infer", body });
  if (answer.statusCode !== 200) throw new Error(await answer.body.text());
  await answer.body.dump();
});

await pool.close();

using client = createClient(GRPCInferenceService, `127.0.0.1:${server.grpcPort}`);
const shape = [1n, 16n];
const raw = new Uint8Array(Int32Array.from(values).buffer);
const typed = create(ModelInferRequestSchema, {
  modelName: "m",
  inputs: ["a", "b"].map((name) => ({ name, datatype: "INT32", shape, contents: { intContents: values } })),
});
const packed = create(ModelInferRequestSchema, {
  modelName: "m",
  inputs: ["a", "b"].map((name) => ({ name, datatype: "INT32", shape })),
  rawInputContents: [raw, raw],
});
if (process.env["TARGET"] === undefined)
  await measure("gRPC infer, typed", server.pid, () => client.modelInfer(typed, { timeoutMs: 5_000 }));
if (process.env["TARGET"] === undefined)
  await measure("gRPC infer, raw", server.pid, () => client.modelInfer(packed, { timeoutMs: 5_000 }));
