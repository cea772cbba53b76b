// Owns the gRPC calls that ask about the server rather than a model; Envoy brings them here by a route of their own.
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { errorMessage } from "#core/errors.ts";
import { headers } from "#envoy/names.ts";
import type { ServiceHandlers } from "#platform/grpc.ts";
import {
  type GRPCInferenceService,
  RepositoryIndexResponseSchema,
  ServerLiveResponseSchema,
  ServerMetadataResponseSchema,
  ServerReadyResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { type ListIndex, serverMetadata, tooMany, tooManyLists } from "./about.ts";

export function serverCalls(isReady: () => boolean, listIndex: ListIndex): Partial<ServiceHandlers<typeof GRPCInferenceService>> {
  return {
    serverLive: (_call, answer) => answer(null, create(ServerLiveResponseSchema, { live: true })),
    serverReady: (_call, answer) => answer(null, create(ServerReadyResponseSchema, { ready: isReady() })),
    repositoryIndex: ({ request, metadata }, answer) => {
      const caller = metadata.get(headers.caller)[0];
      listIndex(caller === undefined ? undefined : String(caller), request.ready ? "ready" : "all").then(
        (index) => {
          if (index.kind === "too-many") return answer({ code: status.RESOURCE_EXHAUSTED, details: tooMany(index.limit) });
          if (index.kind === "busy") return answer({ code: status.RESOURCE_EXHAUSTED, details: tooManyLists });
          return answer(null, create(RepositoryIndexResponseSchema, { models: [...index.entries] }));
        },
        (error: unknown) => answer({ code: status.UNAVAILABLE, details: errorMessage(error) }),
      );
    },
    serverMetadata: (_call, answer) =>
      answer(null, create(ServerMetadataResponseSchema, { ...serverMetadata, extensions: [...serverMetadata.extensions] })),
  };
}
