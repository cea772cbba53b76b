// Owns what a bootstrap is made for.
import type { AuthOptions } from "./auth.ts";
import type { EnvoyLimits } from "./limits.ts";
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
  /** `defaultLimits` when absent. */
  readonly limits?: EnvoyLimits | undefined;
  /** How callers prove who they are; nobody has to when absent. */
  readonly auth?: AuthOptions | undefined;
  /** Of both inference ports; plain when absent. */
  readonly tls?: PortTls | undefined;
  /** Nothing is traced when absent. */
  readonly tracing?: TracingOptions | undefined;
}
