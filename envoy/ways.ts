// Owns the ways in which Envoy finds others: over ADS, by a unix socket, by an internal listener.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { duration } from "#platform/any.ts";
import type { AddressSchema } from "#proto/gen/envoy/config/core/v3/address_pb.ts";
import { ApiVersion, type ConfigSourceSchema } from "#proto/gen/envoy/config/core/v3/config_source_pb.ts";

export const overAds: MessageInitShape<typeof ConfigSourceSchema> = {
  configSourceSpecifier: { case: "ads", value: {} },
  resourceApiVersion: ApiVersion.V3,
  initialFetchTimeout: duration(15_000),
};

export function pipe(path: string): MessageInitShape<typeof AddressSchema> {
  return { address: { case: "pipe", value: { path, mode: 0o600 } } };
}

/** An internal listener of the same Envoy; `endpointId` keeps apart the connections of those who share it. */
export function internal(listener: string, endpointId = ""): MessageInitShape<typeof AddressSchema> {
  return {
    address: {
      case: "envoyInternalAddress",
      value: { addressNameSpecifier: { case: "serverListenerName", value: listener }, endpointId },
    },
  };
}
