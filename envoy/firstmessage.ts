// Owns the filter that reads the model's name from the first message of a stream: Envoy's own extraction of fields, which
// holds the headers back until the first message is whole and no longer. A script can wait for the end of a body only.
import { toBinary } from "@bufbuild/protobuf";
import { type Any, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { packAny } from "#platform/any.ts";
import { GrpcFieldExtractionConfigSchema } from "#proto/gen/envoy/extensions/filters/http/grpc_field_extraction/v3/config_pb.ts";
import { GRPCInferenceService } from "#proto/gen/inference/open_inference_pb.ts";

/** Envoy knows it by this name only: so is its metadata called, where the naming filter finds the name. */
export const firstMessageFilter = "envoy.filters.http.grpc_field_extraction";

export function buildFirstMessage(): Any {
  const { file, typeName, method } = GRPCInferenceService;
  return packAny(GrpcFieldExtractionConfigSchema, {
    descriptorSet: {
      specifier: {
        case: "inlineBytes",
        value: toBinary(FileDescriptorSetSchema, { $typeName: "google.protobuf.FileDescriptorSet", file: [file.proto] }),
      },
    },
    extractionsByMethod: {
      [`${typeName}.${method.modelStreamInfer.name}`]: {
        requestFieldExtractions: { model_name: { disposition: { case: "dynamicMetadata", value: "" } } },
      },
    },
  });
}
