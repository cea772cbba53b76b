// Owns the values that pass through a delta xDS session: what Envoy asks, what it is answered, what it told about it.

/** The narrow view of the table that a session reads. It must not change during a call into the session. */
export interface ResourceView {
  /** The resource as it is now: `bytes` is the encoded message of the type, `version` differs whenever they differ. */
  get(typeUrl: string, name: string): ResourceState | undefined;
  /** All names of a type; read only when Envoy subscribes to the wildcard. */
  names(typeUrl: string): Iterable<string>;
  /**
   * What Envoy must have before something that it has may become this: until then it would have neither. Nothing when absent.
   */
  needs?(typeUrl: string, name: string): ResourceName | undefined;
}

export interface ResourceName {
  readonly typeUrl: string;
  readonly name: string;
}

export interface ResourceState {
  readonly version: string;
  readonly bytes: Uint8Array;
}

/** What a session takes from one DeltaDiscoveryRequest. */
export interface DeltaRequest {
  readonly typeUrl: string;
  /** Empty when the request answers no response. */
  readonly responseNonce: string;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  /** Name to version; heeded in the first request of a type only. */
  readonly initialResourceVersions: Readonly<Record<string, string>>;
  /** Present when the response of that nonce is refused. */
  readonly errorDetail?: string;
}

export type SessionEvent =
  | { readonly kind: "request"; readonly request: DeltaRequest }
  | { readonly kind: "changed"; readonly typeUrl: string; readonly names: Iterable<string> }
  | { readonly kind: "closed" };

export interface SentResource extends ResourceState {
  readonly name: string;
}

/** One response, to be written to the stream at once and in order. */
export interface DeltaResponse {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly resources: readonly SentResource[];
  readonly removed: readonly string[];
}

/** One name as Envoy now has it; without a version Envoy knows that it does not exist, or has unsubscribed from it. */
export interface AckedResource {
  readonly name: string;
  readonly version: string | undefined;
}

export type SessionEffect =
  | { readonly kind: "acked"; readonly typeUrl: string; readonly resources: readonly AckedResource[] }
  | {
      readonly kind: "nacked";
      readonly typeUrl: string;
      readonly names: readonly string[];
      readonly message: string;
      /** True when the resource stood alone and is given up at this version; false when the halves are tried again. */
      readonly final: boolean;
    };

/** A resource that Envoy refused when it stood alone. Without a version it is a removal that was refused. */
export interface RefusedResource {
  readonly typeUrl: string;
  readonly name: string;
  readonly version: string | undefined;
  readonly message: string;
}

export interface SessionLimits {
  /** Names and bytes of one response; a single larger resource still goes out. 3 MiB when absent. */
  readonly maxResponseBytes: number;
}
