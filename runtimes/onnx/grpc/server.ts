// Owns the gRPC face of the models: inference.GRPCInferenceService. Loading is not here (admin.ts).
// A model that is not here is UNAVAILABLE with the not-here mark, sent as trailers only: status and mark stand in the headers,
// where Envoy sees them in time to ask another pod. A request that is no message is INVALID_ARGUMENT, not INTERNAL.
import { once } from "node:events";
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { Metadata, Server, type ServerDuplexStream, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import { addService, allowResets } from "#platform/grpc.ts";
import { readStrictly } from "#platform/strictmessage.ts";
import {
  GRPCInferenceService,
  type ModelInferRequest,
  ModelInferRequestSchema,
  type ModelInferResponse,
  ModelMetadataRequestSchema,
  ModelMetadataResponseSchema,
  ModelReadyRequestSchema,
  ModelReadyResponseSchema,
  type ModelStreamInferResponse,
  ModelStreamInferResponseSchema,
  ServerLiveRequestSchema,
  ServerLiveResponseSchema,
  ServerMetadataRequestSchema,
  ServerMetadataResponseSchema,
  ServerReadyRequestSchema,
  ServerReadyResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { runInference } from "../inference.ts";
import { describeModel, serverDescription } from "../metadata.ts";
import { badRequest, Refusal } from "../refusal.ts";
import type { Repository } from "../repository.ts";
import type { WhenGone } from "../session.ts";
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
    handle: (request: Request, whenGone: WhenGone) => Response | Refusal | Promise<Response | Refusal>,
  ): ((call: ServerUnaryCall<Request | Refusal, Response>, done: sendUnaryData<Response>) => void) => {
    return (call, done) => {
      const whenGone: WhenGone = (leave) => (call.cancelled ? leave() : void call.once("cancelled", leave));
      void answer(options, (request: Request) => handle(request, whenGone), call.request, done);
    };
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
      modelInfer: unary((request: ModelInferRequest, whenGone) => infer(options, request, whenGone)),
      modelStreamInfer: (stream) => serveStream(options, stream),
    },
    codecs,
  );
  return server;
}

const codecs = {
  serverLive: { requestDeserialize: parser(ServerLiveRequestSchema) },
  serverReady: { requestDeserialize: parser(ServerReadyRequestSchema) },
  serverMetadata: { requestDeserialize: parser(ServerMetadataRequestSchema) },
  modelReady: { requestDeserialize: parser(ModelReadyRequestSchema) },
  modelMetadata: { requestDeserialize: parser(ModelMetadataRequestSchema) },
  modelInfer: { requestDeserialize: parser(ModelInferRequestSchema) },
  modelStreamInfer: { requestDeserialize: parser(ModelInferRequestSchema) },
} as const;

function parser<Desc extends DescMessage>(schema: Desc): (bytes: Buffer) => MessageShape<Desc> | Refusal {
  return (bytes) => {
    try {
      return readStrictly(schema, bytes);
    } catch {
      return badRequest(`the request is no ${schema.typeName} message`);
    }
  };
}

async function infer(
  options: GrpcOptions,
  request: ModelInferRequest,
  whenGone: WhenGone,
): Promise<ModelInferResponse | Refusal> {
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
    whenGone,
  );
  return outputs instanceof Refusal ? outputs : buildResponse(held, request, outputs);
}

type InferStream = ServerDuplexStream<ModelInferRequest | Refusal, ModelStreamInferResponse>;

/**
 * Requests are answered one after the other, and the next is read when the client has taken the answer. A first request for
 * a model that is not here ends the stream: then nothing was answered yet, and Envoy may ask another pod. So does one that
 * names another model than the first: a stream was let in, and routed, for one model.
 */
function serveStream(options: GrpcOptions, stream: InferStream): void {
  // Envoy cannot rename in a stream's messages, so it names a revision that has a slot in a header.
  const [named] = stream.metadata.get("mm-model-id");
  let answered = 0;
  let first: string | undefined;
  let over = false;
  let turn: Promise<void> = Promise.resolve();
  let leave: (() => void) | undefined;
  const whenGone: WhenGone = (act) => (stream.cancelled ? act() : void (leave = act));
  stream.once("cancelled", () => leave?.());
  const serve = async (request: ModelInferRequest | Refusal): Promise<void> => {
    if (over || stream.cancelled || stream.destroyed) return;
    if (!(request instanceof Refusal)) {
      first ??= request.modelName;
      if (request.modelName !== first) {
        options.counters.errors += 1;
        const details = "every message of a stream must name the model that its first message names";
        over = true;
        stream.emit("error", { code: status.INVALID_ARGUMENT, details });
        return;
      }
    }
    const result =
      request instanceof Refusal
        ? request
        : await infer(options, typeof named === "string" ? { ...request, modelName: named } : request, whenGone);
    if (stream.cancelled || stream.destroyed) return;
    const refused = result instanceof Refusal;
    if (refused) options.counters.errors += 1;
    if (refused && result.notHere && answered === 0) {
      stream.emit("error", { code: status[result.grpcStatus], details: result.message, metadata: metadataOf(result) });
      return;
    }
    answered += 1;
    const message = refused ? { errorMessage: result.message } : { inferResponse: result };
    if (!stream.write(create(ModelStreamInferResponseSchema, message))) await once(stream, "drain");
  };
  stream.on("data", (request: ModelInferRequest | Refusal) => {
    stream.pause();
    turn = turn
      .then(() => serve(request))
      .then(
        () => {
          stream.resume();
        },
        () => {
          stream.destroy();
        },
      );
  });
  stream.on("end", () => void turn.finally(() => (over ? undefined : stream.end())));
  stream.on("error", () => undefined);
}

function metadataOf(refusal: Refusal): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(refusal.headers)) metadata.set(name, value);
  return metadata;
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
  done({ code: status[result.grpcStatus], details: result.message, metadata: metadataOf(result) });
}
