// Owns a V2 service over gRPC that answers with what it was asked, for model servers of tests that have no other protocol.
import { create } from "@bufbuild/protobuf";
import { status as codes, type Metadata, type Server, type ServiceError } from "@grpc/grpc-js";
import { addService } from "#platform/grpc.ts";
import {
  GRPCInferenceService,
  type ModelInferRequest,
  ModelInferResponseSchema,
  ModelMetadataResponseSchema,
  ModelReadyResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";

export interface EchoOptions {
  /** Whether it holds a model of this name; every one when absent. */
  readonly holds?: (name: string) => boolean;
  /** Called with what comes, before it is answered; what it throws is the answer. */
  readonly onInfer?: (request: ModelInferRequest, metadata: Metadata) => void | Promise<void>;
}

type Done<T> = (error: Partial<ServiceError> | null, value?: T) => void;

export function addEcho(server: Server, { holds = () => true, onInfer = () => undefined }: EchoOptions = {}): void {
  const held = <T>(name: string, done: Done<T>, answer: () => T): void =>
    holds(name) ? done(null, answer()) : done({ code: codes.NOT_FOUND, details: `no model ${name}` });
  addService(server, GRPCInferenceService, {
    modelInfer({ request, metadata }, done) {
      const answer = async (): Promise<void> => {
        try {
          await onInfer(request, metadata);
        } catch (error) {
          return done(error as Partial<ServiceError>);
        }
        return held(request.modelName, done, () => {
          const { modelName, modelVersion, id, parameters, rawInputContents } = request;
          const outputs = request.inputs.map(({ name, datatype, shape, parameters: own, contents }) => ({
            name,
            datatype,
            shape,
            parameters: own,
            ...(contents === undefined ? {} : { contents }),
          }));
          return create(ModelInferResponseSchema, {
            modelName,
            modelVersion: modelVersion === "" ? "1" : modelVersion,
            id,
            parameters,
            outputs,
            rawOutputContents: rawInputContents,
          });
        });
      };
      void answer();
    },
    modelMetadata: ({ request: { name } }, done) =>
      held(name, done, () => {
        const inputs = [{ name: "x", datatype: "FP32", shape: [-1n, 4n] }];
        return create(ModelMetadataResponseSchema, { name, versions: ["1"], platform: "echo", inputs, outputs: inputs });
      }),
    modelReady: ({ request: { name } }, done) => held(name, done, () => create(ModelReadyResponseSchema, { ready: true })),
  });
}
