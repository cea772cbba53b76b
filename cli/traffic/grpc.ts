// Owns calls over gRPC: ModelInfer with typed contents and with raw ones, in turn. All clients share one connection.
import { isIP } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { credentials } from "@grpc/grpc-js";
import type { AnswerTensor, InferBody } from "#cli/library/answer.ts";
import { createClient } from "#platform/grpc.ts";
import {
  GRPCInferenceService,
  type ModelInferRequest,
  ModelInferRequestSchema,
  type ModelInferResponse,
  type ModelInferResponse_InferOutputTensor,
} from "#proto/gen/inference/open_inference_pb.ts";
import { type Caller, type CallResult, type ClientTls, loadHeader } from "./caller.ts";

export interface GrpcOptions {
  /** `host:port` */
  readonly target: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly tls?: ClientTls | undefined;
}

export function createGrpcCaller({ target, timeoutMs, signal, tls }: GrpcOptions): Caller {
  const secure = tls === undefined ? undefined : credentials.createSsl(tls.ca, tls.key, tls.cert);
  const client = createClient(GRPCInferenceService, target, secure, { channel: namedHost(target, tls) });
  const options = { timeoutMs, ...(signal === undefined ? {} : { signal }) };
  let calls = 0;
  return {
    protocol: "grpc",
    async infer(model, body): Promise<CallResult> {
      calls += 1;
      const pending = client.modelInfer(buildInferRequest(model, body, calls % 2 === 0 ? "raw" : "typed"), options);
      let miss = false;
      pending.call.once("metadata", (metadata) => {
        miss = metadata.get(loadHeader).length > 0;
      });
      try {
        return { kind: "answered", outputs: readOutputs(await pending), miss };
      } catch (error) {
        return { kind: "failed", reason: `gRPC: ${error instanceof Error ? error.message : String(error)}` };
      }
    },
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
    },
  };
}

/** Node lets no address be asked for by name (SNI), and grpc-js asks for what stands in the target. */
function namedHost(target: string, tls: ClientTls | undefined): Readonly<Record<string, string>> {
  const host = target.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return tls === undefined || isIP(host) === 0 ? {} : { "grpc.ssl_target_name_override": "localhost" };
}

export function buildInferRequest(model: string, { inputs }: InferBody, contents: "typed" | "raw"): ModelInferRequest {
  const [{ name, datatype, shape, data }] = inputs;
  const input = { name, datatype, shape: shape.map(BigInt) };
  const request: MessageInitShape<typeof ModelInferRequestSchema> =
    contents === "raw"
      ? { inputs: [input], rawInputContents: [toBytes(datatype === "FP32" ? Float32Array.from(data) : Int32Array.from(data))] }
      : { inputs: [{ ...input, contents: datatype === "FP32" ? { fp32Contents: [...data] } : { intContents: [...data] } }] };
  return create(ModelInferRequestSchema, { modelName: model, ...request });
}

/** FP32 and INT64 outputs, raw or typed; another datatype becomes an output without elements. */
export function readOutputs({ outputs, rawOutputContents }: ModelInferResponse): readonly AnswerTensor[] {
  return outputs.map((output, at) => {
    const raw = rawOutputContents[at];
    return { name: output.name, data: raw === undefined ? readTyped(output) : readRaw(output.datatype, raw) };
  });
}

function readTyped({ datatype, contents }: ModelInferResponse_InferOutputTensor): readonly number[] {
  if (datatype === "FP32") return contents?.fp32Contents ?? [];
  return datatype === "INT64" ? (contents?.int64Contents ?? []).map(Number) : [];
}

/** Raw contents are little-endian, and the slice of a message need not be aligned. */
function readRaw(datatype: string, raw: Uint8Array): readonly number[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const count = (size: number): { length: number } => ({ length: Math.floor(raw.byteLength / size) });
  if (datatype === "FP32") return Array.from(count(4), (_, at) => view.getFloat32(at * 4, true));
  return datatype === "INT64" ? Array.from(count(8), (_, at) => Number(view.getBigInt64(at * 8, true))) : [];
}

function toBytes(values: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
