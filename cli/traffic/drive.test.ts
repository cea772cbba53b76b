// The server here is scripted: it answers from the oracle's own expectation, or with a planted fault. That real models
// give these answers is tested beside the library and end to end.
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Metadata, Server, status } from "@grpc/grpc-js";
import { buildLibrary } from "#cli/library/build.ts";
import { type Oracle, openOracle } from "#cli/library/oracle.ts";
import { fetchSources } from "#cli/library/sources.ts";
import { addService, bindServer, closeServer } from "#platform/grpc.ts";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import {
  GRPCInferenceService,
  type ModelInferRequest,
  ModelInferResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { loadHeader } from "./caller.ts";
import { driveTraffic, type TrafficOptions } from "./drive.ts";
import type { TrafficReport, TrafficSample } from "./report.ts";

type Fault = "none" | "unavailable" | "other answer" | "no answer";

interface Script {
  /** The first request of each model says that it waited. */
  readonly seen: Set<string>;
  fault: (model: string) => Fault;
  readonly contents: Set<"raw" | "typed">;
  onRequest: () => void;
}

let run: RunFolder;
let oracle: Oracle;
const script: Script = { seen: new Set(), fault: () => "none", contents: new Set(), onRequest: () => undefined };
const rest = createServer((request, response) => void answerRest(request, response));
const grpc = new Server();
let targets: { readonly restUrl: string; readonly grpcTarget: string };

before(async () => {
  run = await openRunFolder();
  const folder = join(run.path, "library");
  await buildLibrary({ ...fetchSources(), outFolder: folder, tenants: { iris: 5, wine: 5, cancer: 5, diabetes: 5, digits: 5 } });
  oracle = await openOracle(folder);
  await new Promise<void>((resolve) => void rest.listen(0, "127.0.0.1", resolve));
  const address = rest.address();
  assert.ok(typeof address === "object" && address !== null);
  addService(grpc, GRPCInferenceService, {
    modelInfer(call, done) {
      const { modelName } = call.request;
      const miss = new Metadata();
      if (isMiss(modelName)) miss.set(loadHeader, "12.5");
      call.sendMetadata(miss);
      script.contents.add(call.request.rawInputContents.length > 0 ? "raw" : "typed");
      if (script.fault(modelName) === "unavailable") return done({ code: status.UNAVAILABLE, details: "planted" });
      return done(null, answerGrpc(modelName, call.request, script.contents.size % 2 === 0));
    },
  });
  targets = { restUrl: `http://127.0.0.1:${address.port}`, grpcTarget: `127.0.0.1:${await bindServer(grpc, "127.0.0.1:0")}` };
});

after(async () => {
  rest.closeAllConnections();
  await new Promise((resolve) => rest.close(resolve));
  await closeServer(grpc, 1_000);
  await run[Symbol.asyncDispose]();
});

function isMiss(model: string): boolean {
  const miss = !script.seen.has(model);
  script.seen.add(model);
  return miss;
}

/** What the model must answer, or what its neighbour would. */
function outputsOf(
  model: string,
  values: readonly number[],
): readonly { name: string; datatype: "FP32" | "INT64"; data: number[] }[] {
  const asked = script.fault(model) === "other answer" ? neighbourOf(model) : model;
  const predicted = oracle.predict(asked, values);
  return predicted.kind === "label"
    ? [
        { name: "label", datatype: "INT64", data: [predicted.value] },
        { name: "scores", datatype: "FP32", data: [...predicted.scores] },
      ]
    : [{ name: "prediction", datatype: "FP32", data: [predicted.value] }];
}

function neighbourOf(model: string): string {
  return model.endsWith("1") ? model.replace(/1$/, "2") : model.replace(/\d$/, "1");
}

async function answerRest(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const model = /^\/v2\/models\/([^/]+)\/infer$/.exec(request.url ?? "")?.[1] ?? "";
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  script.onRequest();
  const fault = script.fault(model);
  if (fault === "no answer") return;
  if (fault === "unavailable") {
    response.writeHead(503, { "content-type": "application/json" }).end('{"error":"planted"}');
    return;
  }
  const body = JSON.parse(Buffer.concat(chunks).toString()) as { inputs: [{ data: number[] }] };
  if (isMiss(model)) response.setHeader(loadHeader, "12.5");
  response.end(JSON.stringify({ model_name: model, outputs: outputsOf(model, body.inputs[0].data) }));
}

function answerGrpc(
  model: string,
  request: ModelInferRequest,
  raw: boolean,
): ReturnType<typeof create<typeof ModelInferResponseSchema>> {
  const sent = request.rawInputContents[0];
  const values =
    sent === undefined
      ? (request.inputs[0]?.contents?.fp32Contents ?? [])
      : Array.from({ length: sent.byteLength / 4 }, (_, at) =>
          new DataView(sent.buffer, sent.byteOffset).getFloat32(at * 4, true),
        );
  const outputs = outputsOf(model, values);
  const common = outputs.map(({ name, datatype, data }) => ({ name, datatype, shape: [1n, BigInt(data.length)] }));
  if (raw) {
    const rawOutputContents = outputs.map(({ datatype, data }) => {
      const bytes = datatype === "FP32" ? Float32Array.from(data) : BigInt64Array.from(data, BigInt);
      return new Uint8Array(bytes.buffer);
    });
    return create(ModelInferResponseSchema, { modelName: model, outputs: common, rawOutputContents });
  }
  return create(ModelInferResponseSchema, {
    modelName: model,
    outputs: common.map((output, at) => ({
      ...output,
      contents:
        output.datatype === "FP32" ? { fp32Contents: outputs[at]!.data } : { int64Contents: outputs[at]!.data.map(BigInt) },
    })),
  });
}

/** Runs until so many requests were answered, 10 s at most. */
async function drive(
  stopAfter: number,
  options: Partial<TrafficOptions> = {},
): Promise<{ report: TrafficReport; samples: TrafficSample[] }> {
  script.seen.clear();
  const stop = new AbortController();
  const samples: TrafficSample[] = [];
  const report = await driveTraffic({
    ...targets,
    models: oracle.models.filter((name) => name !== "magika"),
    oracle,
    durationMs: 10_000,
    concurrency: 4,
    zipfExponent: 1,
    seed: 1,
    signal: stop.signal,
    onSample(sample) {
      samples.push(sample);
      if (samples.length >= stopAfter) stop.abort();
    },
    ...options,
  });
  return { report, samples };
}

describe("driveTraffic", () => {
  it("counts hits and misses over both protocols, all right", async () => {
    script.fault = () => "none";
    const { report, samples } = await drive(400);
    assert.equal(report.requests, 400);
    assert.deepEqual([report.failed, report.wrong, report.errors], [0, 0, []]);
    assert.equal(report.misses, script.seen.size);
    assert.equal(report.hits, 400 - report.misses);
    assert.ok(report.hitP50Ms !== null && report.hitP99Ms !== null && report.hitP50Ms <= report.hitP99Ms);
    assert.ok(report.missP50Ms !== null && report.missP99Ms !== null);
    assert.deepEqual(new Set(samples.map(({ protocol }) => protocol)), new Set(["rest", "grpc"]));
    assert.deepEqual(script.contents, new Set(["raw", "typed"]));
  });

  it("tells the answer of another tenant's model", async () => {
    script.fault = (model) => (model.endsWith("-t0002") ? "other answer" : "none");
    const { report, samples } = await drive(300);
    assert.ok(report.wrong > 0);
    assert.equal(report.wrong, samples.filter(({ model }) => model.endsWith("-t0002")).length);
    assert.ok(report.errors.length > 0 && report.errors.length <= 10);
    assert.equal(report.hits + report.misses, report.requests);
  });

  it("counts refusals as failed", async () => {
    script.fault = () => "unavailable";
    const { report } = await drive(20);
    assert.deepEqual([report.requests, report.failed, report.hits, report.misses], [20, 20, 0, 0]);
    assert.equal(report.hitP50Ms, null);
    assert.deepEqual(report.errors.toSorted(), ['REST: HTTP 503 {"error":"planted"}', "gRPC: 14 UNAVAILABLE: planted"]);
  });

  it("counts a server that is away as failed, and goes on", async () => {
    script.fault = () => "none";
    const { report } = await drive(8, { restUrl: "http://127.0.0.1:9", grpcTarget: "127.0.0.1:9", timeoutMs: 1_000 });
    assert.equal(report.failed, 8);
    assert.ok(report.errors.some((error) => error.startsWith("REST: ")));
  });

  it("fails a request that is not answered in time", async () => {
    script.fault = () => "no answer";
    const { report } = await drive(1, { concurrency: 1, timeoutMs: 100 });
    assert.equal(report.failed, 1);
    assert.match(report.errors[0] ?? "", /timeout/i);
  });

  it("does not count what the signal cuts off", async () => {
    script.fault = () => "no answer";
    const stop = new AbortController();
    script.onRequest = () => stop.abort();
    const { report } = await drive(1, { signal: stop.signal, concurrency: 1 });
    script.onRequest = () => undefined;
    assert.equal(report.requests, 0);
  });

  it("ends when its time is over", async () => {
    script.fault = () => "none";
    const { report } = await drive(Number.POSITIVE_INFINITY, { durationMs: 100 });
    assert.ok(report.requests > 0);
    assert.equal(report.failed + report.wrong, 0);
  });

  it("asks the same questions for the same seed", async () => {
    const models = async (seed: number): Promise<readonly string[]> => {
      const { samples } = await drive(30, { seed, concurrency: 1 });
      return samples.map(({ model }) => model);
    };
    assert.deepEqual(await models(5), await models(5));
    assert.notDeepEqual(await models(5), await models(6));
  });

  it("refuses to run without a client", async () => {
    await assert.rejects(drive(1, { concurrency: 0 }), RangeError);
  });
});
