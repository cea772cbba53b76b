// Owns the gRPC calls that ask about the server rather than a model; Envoy brings them here by a route of their own.
import { create } from "@bufbuild/protobuf";
import type { ServiceHandlers } from "#platform/grpc.ts";
import {
  type GRPCInferenceService,
  ServerLiveResponseSchema,
  ServerMetadataResponseSchema,
  ServerReadyResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { serverMetadata } from "./about.ts";

export function serverCalls(isReady: () => boolean): Partial<ServiceHandlers<typeof GRPCInferenceService>> {
  return {
    serverLive: (_call, answer) => answer(null, create(ServerLiveResponseSchema, { live: true })),
    serverReady: (_call, answer) => answer(null, create(ServerReadyResponseSchema, { ready: isReady() })),
    serverMetadata: (_call, answer) =>
      answer(null, create(ServerMetadataResponseSchema, { ...serverMetadata, extensions: [...serverMetadata.extensions] })),
  };
}
