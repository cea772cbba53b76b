// Owns the gRPC face of the models: inference.GRPCInferenceService. Loading is not here (admin.ts).
// A model that is not here is NOT_FOUND with the not-here mark, sent as trailers only: status and mark stand in the headers,
// where Envoy sees them in time to ask another pod. A request that is no message is INVALID_ARGUMENT, not INTERNAL.
import { create, type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { Metadata, Server, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { addService } from "#platform/grpc.ts";
import {
  GRPCInferenceService,
  type ModelInferRequest,
  ModelInferRequestSchema,
  type ModelInferResponse,
  ModelMetadataRequestSchema,
  ModelMetadataResponseSchema,
  ModelReadyRequestSchema,
  ModelReadyResponseSchema,
  ServerLiveRequestSchema,
  ServerLiveResponseSchema,
  ServerMetadataRequestSchema,
  ServerMetadataResponseSchema,
  ServerReadyRequestSchema,
  ServerReadyResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { runInference } from "../inference.ts";
import { describeModel, serverDescription } from "../metadata.ts";
import { badRequest, notHereHeader, Refusal } from "../refusal.ts";
import type { Repository } from "../repository.ts";
import type { Counters } from "../stats.ts";
import { buildResponse, parseInputs } from "./messages.ts";

export interface GrpcOptions {
  readonly repository: Repository;
  readonly counters: Counters;
  readonly maxBodyBytes: number;
}

export function createGrpcServer(options: GrpcOptions): Server {
  const { repository } = options;
  const server = new Server({
    "grpc.max_receive_message_length": options.maxBodyBytes,
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": 100_000,
    "grpc.enable_channelz": 0,
  });
  allowResets(server);
  const unary = <Request, Response>(
    handle: (request: Request) => Response | Refusal | Promise<Response | Refusal>,
  ): ((call: ServerUnaryCall<Request | Refusal, Response>, done: sendUnaryData<Response>) => void) => {
    return (call, done) => void answer(options, handle, call.request, done);
  };
  addService<typeof GRPCInferenceService, typeof codecs>(
    server,
    GRPCInferenceService,
    {
      serverLive: unary(() => create(ServerLiveResponseSchema, { live: true })),
      serverReady: unary(() => create(ServerReadyResponseSchema, { ready: true })),
      serverMetadata: unary(() =>
        create(ServerMetadataResponseSchema, { ...serverDescription, extensions: [...serverDescription.extensions] }),
      ),
      modelReady: unary(({ name, version }: { name: string; version: string }) => {
        const lease = repository.lease(name, version);
        if (lease instanceof Refusal) return lease;
        using _ = lease;
        return create(ModelReadyResponseSchema, { ready: true });
      }),
      modelMetadata: unary(({ name, version }: { name: string; version: string }) => {
        const lease = repository.lease(name, version);
        if (lease instanceof Refusal) return lease;
        using held = lease;
        const { inputs, outputs, versions, ...model } = describeModel(held);
        const tensor = ({ shape, ...rest }: (typeof inputs)[number]): { name: string; datatype: string; shape: bigint[] } => ({
          ...rest,
          shape: shape.map(BigInt),
        });
        return create(ModelMetadataResponseSchema, {
          ...model,
          versions: [...versions],
          inputs: inputs.map(tensor),
          outputs: outputs.map(tensor),
        });
      }),
      modelInfer: unary((request: ModelInferRequest) => infer(options, request)),
    },
    codecs,
  );
  return server;
}

/**
 * Lets a connection live through any number of cancelled calls. Node's HTTP/2 server ends a connection after 1,000 resets at
 * more than 33 a second, with all calls on it; behind Envoy one connection carries the cancellations of all clients.
 * grpc-js has no option for it, so this reaches for the options that it hands to Node; grpc.test.ts notices if they move.
 */
function allowResets(server: Server): void {
  const options: unknown = Reflect.get(server, "commonServerOptions");
  if (typeof options === "object" && options !== null)
    Object.assign(options, { streamResetBurst: 2 ** 31, streamResetRate: 2 ** 31 });
}

const codecs = {
  serverLive: { requestDeserialize: parser(ServerLiveRequestSchema) },
  serverReady: { requestDeserialize: parser(ServerReadyRequestSchema) },
  serverMetadata: { requestDeserialize: parser(ServerMetadataRequestSchema) },
  modelReady: { requestDeserialize: parser(ModelReadyRequestSchema) },
  modelMetadata: { requestDeserialize: parser(ModelMetadataRequestSchema) },
  modelInfer: { requestDeserialize: parser(ModelInferRequestSchema) },
} as const;

function parser<Desc extends DescMessage>(schema: Desc): (bytes: Buffer) => MessageShape<Desc> | Refusal {
  return (bytes) => {
    try {
      return fromBinary(schema, bytes, { readUnknownFields: false });
    } catch {
      return badRequest(`the request is no ${schema.typeName} message`);
    }
  };
}

async function infer(options: GrpcOptions, request: ModelInferRequest): Promise<ModelInferResponse | Refusal> {
  options.counters.requests += 1;
  const lease = options.repository.lease(request.modelName, request.modelVersion);
  if (lease instanceof Refusal) return lease;
  using held = lease;
  const inputs = parseInputs(request);
  if (inputs instanceof Refusal) return inputs;
  const outputs = await runInference(
    held.session,
    inputs,
    request.outputs.map(({ name }) => name),
  );
  return outputs instanceof Refusal ? outputs : buildResponse(held, request, outputs);
}

async function answer<Request, Response>(
  { counters }: GrpcOptions,
  handle: (request: Request) => Response | Refusal | Promise<Response | Refusal>,
  request: Request | Refusal,
  done: sendUnaryData<Response>,
): Promise<void> {
  let result: Response | Refusal;
  try {
    result = request instanceof Refusal ? request : await handle(request);
  } catch (error) {
    result = new Refusal("fault", `the model server failed: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!(result instanceof Refusal)) {
    done(null, result);
    return;
  }
  counters.errors += 1;
  const metadata = new Metadata();
  if (result.notHere) metadata.set(notHereHeader, "1");
  done({ code: result.grpcStatus, details: result.message, metadata });
}
