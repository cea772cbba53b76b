// A model server for tests that was made for ModelMesh: its management contract and the V2 protocol over gRPC, each where it is
// told to listen. What it answers tells what it was given. Run where the packages and the generated messages lie.
//
// environment: MANAGE, DATA  port:NUMBER (of every address) or unix:/PATH; one server when they are the same
//              FETCHES       it reads no file: where the artefact lies is told to it
//              METRICS       a port of its own, where it says "own"
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { dirname } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Server, status } from "@grpc/grpc-js";
import { addService, bindServer } from "#platform/grpc.ts";
import { GRPCInferenceService } from "#proto/gen/inference/open_inference_pb.ts";
import { ModelRuntime, RuntimeStatusResponse_Status as Status } from "#proto/gen/mmesh/model_runtime_pb.ts";

const { MANAGE = "port:8085", DATA = MANAGE, FETCHES, METRICS } = process.env;
/** By name: what was said of it at its load. */
const models = new Map();

const management = {
  loadModel({ request: { modelId, modelType, modelPath, modelKey } }, done) {
    try {
      const sizeInBytes = FETCHES === undefined ? readFileSync(modelPath).length : 1_000;
      models.set(modelId, { modelType, modelPath, modelKey: JSON.parse(modelKey), sizeInBytes });
      done(null, { sizeInBytes: BigInt(sizeInBytes), maxConcurrency: 0 });
    } catch (error) {
      done({ code: status.INTERNAL, details: String(error) });
    }
  },
  unloadModel({ request: { modelId } }, done) {
    models.delete(modelId);
    done(null, {});
  },
  predictModelSize: (_, done) => done({ code: status.UNIMPLEMENTED, details: "no" }),
  modelSize({ request: { modelId } }, done) {
    const model = models.get(modelId);
    if (model === undefined) done({ code: status.NOT_FOUND, details: `no model ${modelId}` });
    else done(null, { sizeInBytes: BigInt(model.sizeInBytes) });
  },
  runtimeStatus(_, done) {
    models.clear();
    done(null, {
      status: Status.READY,
      capacityInBytes: 4_000_000_000n,
      maxLoadingConcurrency: 3,
      modelLoadingTimeoutMs: 240_000,
      defaultModelSizeInBytes: 2_000n,
      runtimeVersion: "1",
      numericRuntimeVersion: 1n,
      methodInfos: { "inference.GRPCInferenceService/ModelInfer": { idInjectionPath: [1] } },
      allowAnyMethod: false,
      limitModelConcurrency: false,
    });
  },
};

const inference = {
  modelInfer({ request: { modelName } }, done) {
    const model = models.get(modelName);
    if (model === undefined) return done({ code: status.NOT_FOUND, details: `no model ${modelName}` });
    const text = Buffer.from(JSON.stringify({ modelName, ...model }));
    const outputs = [{ name: "given", datatype: "BYTES", shape: [1n], parameters: {}, contents: { bytesContents: [text] } }];
    return done(null, { modelName, modelVersion: "", id: "", parameters: {}, outputs, rawOutputContents: [] });
  },
};

const serve = (server, service, handlers) => {
  const answering = Object.entries(handlers).map(([name, handler]) => [
    name,
    (call, done) =>
      handler(call, (error, answer) => done(error, error === null ? create(service.method[name].output, answer) : undefined)),
  ]);
  addService(server, service, Object.fromEntries(answering));
};

for (const at of new Set([MANAGE, DATA])) {
  const server = new Server();
  if (at === MANAGE) serve(server, ModelRuntime, management);
  if (at === DATA) serve(server, GRPCInferenceService, inference);
  const path = at.startsWith("unix:") ? at.slice("unix:".length) : undefined;
  if (path !== undefined) {
    mkdirSync(dirname(path), { recursive: true });
    rmSync(path, { force: true });
  }
  await bindServer(server, path === undefined ? `0.0.0.0:${at.slice("port:".length)}` : `unix:${path}`);
}
// The first process of a container is not ended by a signal that it does not heed.
process.on("SIGTERM", () => process.exit(0));
if (METRICS !== undefined) createServer((_, response) => response.end("own")).listen(Number(METRICS));
