// Owns what Envoy tries again, and where: what cannot have done any work (no connection, stream refused, model not there) and
// a reset before any part of the answer, once, at the next priority of the cluster. Inference computes and keeps nothing, so a
// pod that died while computing may be asked again elsewhere.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { duration, packAny } from "#platform/any.ts";
import type { RetryPolicySchema } from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { PreviousPrioritiesConfigSchema } from "#proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.ts";
import { headers } from "./names.ts";

/**
 * Largest request body, in bytes, that is kept for another try: as large as a message may be for gRPC's own clients and
 * servers unless they are told otherwise. What is kept counts against the memory of the Envoy; when that runs short those
 * streams end first that hold most.
 */
export const retryBodyBytes = 4 << 20;

export function onceElsewhere(): Extract<MessageInitShape<typeof RetryPolicySchema>, { readonly $typeName?: never }> {
  return {
    retryOn: "connect-failure,refused-stream,reset,retriable-headers",
    retriableHeaders: [{ name: headers.notHere, headerMatchSpecifier: { case: "presentMatch", value: true } }],
    numRetries: 1,
    retryPriority: {
      name: "envoy.retry_priorities.previous_priorities",
      configType: { case: "typedConfig", value: packAny(PreviousPrioritiesConfigSchema, { updateFrequency: 1 }) },
    },
    retryBackOff: { baseInterval: duration(5), maxInterval: duration(50) },
  };
}

/** Nothing that failed is tried again; beside a try that says nothing a second one waits all the same. */
export function whenSilent(): ReturnType<typeof onceElsewhere> {
  const { retryPriority, numRetries } = onceElsewhere();
  return { retryOn: "retriable-status-codes", numRetries, retryPriority };
}
