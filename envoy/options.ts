// Owns what a bootstrap is made for, and the ways in which Envoy finds others: over ADS, by a
// unix socket, by an internal listener.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { duration } from "#platform/any.ts";
import type { AddressSchema } from "#proto/gen/envoy/config/core/v3/address_pb.ts";
import { ApiVersion, type ConfigSourceSchema } from "#proto/gen/envoy/config/core/v3/config_source_pb.ts";
import type { AuthOptions } from "./auth.ts";
import type { PortTls } from "./tls.ts";
import type { TracingOptions } from "./tracing.ts";

export interface PortAddress {
  readonly host: string;
  readonly port: number;
}

export interface BootstrapOptions {
  /** Stable over restarts of this Envoy. */
  readonly nodeId: string;
  /** Unix socket paths, at most some 100 bytes each. */
  readonly adminSocket: string;
  readonly gatewaySocket: string;
  readonly http: PortAddress;
  readonly grpc: PortAddress;
  /** Largest message on the gRPC port, where the name is read from the message. */
  readonly maxMessageBytes: number;
  /** Longest time that the gateway may hold a request; at most an hour. */
  readonly maxParkMs: number;
  /** How callers prove who they are; nobody has to when absent. */
  readonly auth?: AuthOptions | undefined;
  /** Of both inference ports; plain when absent. */
  readonly tls?: PortTls | undefined;
  /** Nothing is traced when absent. */
  readonly tracing?: TracingOptions | undefined;
}

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
