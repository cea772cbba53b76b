// Owns a model server made for ModelMesh, in this process: its management contract on a unix socket, and on a port V2 over gRPC,
// and a service of its own, whose messages name the model in a nested field and nowhere else. It has no REST.
import { readFile } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { status as codes, Server } from "@grpc/grpc-js";
import { addService, bindServer, closeServer } from "#platform/grpc.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import {
  LoadModelResponseSchema,
  ModelRuntime,
  ModelSizeResponseSchema,
  PredictModelSizeResponseSchema,
  RuntimeStatusResponse_Status,
  RuntimeStatusResponseSchema,
  UnloadModelResponseSchema,
} from "#proto/gen/mmesh/model_runtime_pb.ts";
import { addEcho, type EchoOptions } from "./echoservice.ts";

export interface CustomRuntime extends AsyncDisposable {
  /** Of its service, `host:port`. */
  readonly grpcAddress: string;
  /** Of its management, `unix:/path`. */
  readonly managementAddress: string;
  /** By name: what the artefact says. */
  readonly held: Map<string, string>;
  readonly predicted: readonly string[];
}

/** `/acme.Scorer/Score`: Request { Spec spec = 3; bytes payload = 2; }, Spec { string id = 20; string id_copy = 1; } */
export const scoreMethod = "acme.Scorer/Score";
export const idPath = [3, 20];

const inferMethod = "inference.GRPCInferenceService/ModelInfer";

export async function openCustomRuntime(onInfer?: EchoOptions["onInfer"]): Promise<CustomRuntime> {
  const folder = await openRunFolder();
  const held = new Map<string, string>();
  const predicted: string[] = [];
  const management = new Server();
  addService(management, ModelRuntime, {
    loadModel: ({ request }, done) => {
      readFile(request.modelPath, "utf8", (error, text) => {
        if (error !== null) return done({ code: codes.INTERNAL, details: String(error) });
        held.set(request.modelId, text);
        return done(null, create(LoadModelResponseSchema, { sizeInBytes: 1_000n }));
      });
    },
    unloadModel: ({ request }, done) => {
      held.delete(request.modelId);
      done(null, create(UnloadModelResponseSchema));
    },
    predictModelSize: ({ request }, done) => {
      predicted.push(request.modelId);
      done(null, create(PredictModelSizeResponseSchema, { sizeInBytes: 1_200n }));
    },
    modelSize: ({ request }, done) => {
      if (held.has(request.modelId)) return done(null, create(ModelSizeResponseSchema, { sizeInBytes: 1_000n }));
      return done({ code: codes.NOT_FOUND, details: `no model ${request.modelId}` });
    },
    runtimeStatus: (_, done) => {
      held.clear();
      const methodInfos = { [scoreMethod]: { idInjectionPath: idPath }, [inferMethod]: { idInjectionPath: [1] } };
      const status = RuntimeStatusResponse_Status.READY;
      done(
        null,
        create(RuntimeStatusResponseSchema, { status, capacityInBytes: 10_000n, maxLoadingConcurrency: 1, methodInfos }),
      );
    },
  });
  const socket = join(folder.path, "runtime.sock");
  await bindServer(management, `unix:${socket}`);

  const service = new Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
  const bytes = { serialize: (value: Buffer) => value, deserialize: (value: Buffer) => value };
  service.addService(
    {
      score: {
        path: `/${scoreMethod}`,
        requestStream: false,
        responseStream: false,
        requestSerialize: bytes.serialize,
        requestDeserialize: bytes.deserialize,
        responseSerialize: bytes.serialize,
        responseDeserialize: bytes.deserialize,
      },
    },
    {
      score: (call: { request: Buffer }, done: (error: object | null, answer?: Buffer) => void) => {
        const { id, payload } = readRequest(call.request);
        const text = held.get(id);
        if (text === undefined) return done({ code: codes.NOT_FOUND, details: `no model ${id}` });
        return done(null, Buffer.from(`${id} says ${text} to ${payload}`));
      },
    },
  );
  addEcho(service, { holds: (name) => held.has(name), ...(onInfer === undefined ? {} : { onInfer }) });
  const port = await bindServer(service, "127.0.0.1:0");
  return {
    grpcAddress: `127.0.0.1:${port}`,
    managementAddress: `unix:${socket}`,
    held,
    predicted,
    async [Symbol.asyncDispose](): Promise<void> {
      await Promise.all([closeServer(management, 200), closeServer(service, 200)]);
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** As every reader of protobuf does: nested messages that stand twice are merged, of a text the last one counts. */
function readRequest(message: Buffer): { readonly id: string; readonly payload: string } {
  let id = "";
  let payload = "";
  for (const { number, value } of fieldsOf(message)) {
    if (number === 2) payload = value.toString();
    if (number !== 3) continue;
    for (const inner of fieldsOf(value)) if (inner.number === 20) id = inner.value.toString();
  }
  return { id, payload };
}

/** Length-delimited ones only, which is all that this service has. */
function* fieldsOf(message: Buffer): Generator<{ readonly number: number; readonly value: Buffer }> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++];
      if (byte === undefined) throw new RangeError("a message that is cut off");
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    if (key % 8 !== 2) throw new RangeError("a field that this service does not have");
    const length = varint();
    yield { number: Math.floor(key / 8), value: message.subarray(at, at + length) };
    at += length;
  }
}
