// Owns the runtime layer: the one value that the gateway turns while Envoy runs.
import { create } from "@bufbuild/protobuf";
import { runtimeLayer, usageSampleKey } from "#envoy/names.ts";
import { type Runtime, RuntimeSchema } from "#proto/gen/envoy/service/runtime/v3/rtds_pb.ts";

/** `sampleMillionths`: of a million requests, how many have their access log sent to the gateway. */
export function buildRuntime(sampleMillionths: number): Runtime {
  return create(RuntimeSchema, {
    name: runtimeLayer,
    layer: { [usageSampleKey]: { numerator: sampleMillionths, denominator: "MILLION" } },
  });
}
