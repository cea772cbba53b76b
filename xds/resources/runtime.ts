// Owns the runtime layer: the one value that the gateway turns while Envoy runs.
import { create } from "@bufbuild/protobuf";
import { runtimeLayer, usageSampleKey } from "#envoy/names.ts";
import { type Runtime, RuntimeSchema } from "#proto/gen/envoy/service/runtime/v3/rtds_pb.ts";

/**
 * `sampleMillionths`: of a million requests, how many have their access log sent to the gateway. A whole number: the filter of
 * access logs takes its numerator from here, and passes over a fraction as if nothing were said.
 */
export function buildRuntime(sampleMillionths: number): Runtime {
  return create(RuntimeSchema, {
    name: runtimeLayer,
    layer: { [usageSampleKey]: sampleMillionths },
  });
}
