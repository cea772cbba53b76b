// Owns the ways in which this server declines, and what each is on HTTP and gRPC.
// A refusal is a value that functions return; it is never thrown.
import { status } from "@grpc/grpc-js";

export const refusalKinds = {
  "bad-request": { http: 400, grpc: status.INVALID_ARGUMENT },
  /**
   * No such model on this pod. Another pod may hold it, so the answer carries the not-here mark. Whoever sees it all the same,
   * because a request was too large to be sent to another pod, may try again.
   */
  "not-here": { http: 503, grpc: status.UNAVAILABLE },
  /** The model is here, under another version: no other pod can help. */
  "no-version": { http: 404, grpc: status.NOT_FOUND },
  "no-path": { http: 404, grpc: status.UNIMPLEMENTED },
  "wrong-method": { http: 405, grpc: status.UNIMPLEMENTED },
  "too-large": { http: 413, grpc: status.RESOURCE_EXHAUSTED },
  "wrong-media": { http: 415, grpc: status.UNIMPLEMENTED },
  fault: { http: 500, grpc: status.INTERNAL },
} as const;

export type RefusalKind = keyof typeof refusalKinds;

export class Refusal {
  readonly kind: RefusalKind;
  readonly message: string;

  constructor(kind: RefusalKind, message: string) {
    this.kind = kind;
    this.message = message;
  }

  get httpStatus(): number {
    return refusalKinds[this.kind].http;
  }

  get grpcStatus(): status {
    return refusalKinds[this.kind].grpc;
  }

  /** Whether another pod should be asked. */
  get notHere(): boolean {
    return this.kind === "not-here";
  }
}

/** The header (gRPC: metadata) that tells Envoy to try another pod. */
export const notHereHeader = "x-warm-not-here";

/** In seconds: for who cannot be sent to another pod. By then the gateway has heard of it. */
export const notHereRetryAfter = "1";

export function badRequest(message: string): Refusal {
  return new Refusal("bad-request", message);
}

/** A text from outside, short enough for a message and on one line. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
