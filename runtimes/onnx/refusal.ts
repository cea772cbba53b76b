// Owns the ways in which this server declines, and what each is on HTTP and gRPC.
// A refusal is a value that functions return; it is never thrown. Statuses of gRPC stand here by name: model threads read this
// file too, and have no use for a library of it.

export const refusalKinds = {
  "bad-request": { http: 400, grpc: "INVALID_ARGUMENT" },
  /**
   * No such model on this pod. Another pod may hold it, so the answer carries the not-here mark. Whoever sees it all the same,
   * because a request was too large to be sent to another pod, may try again.
   */
  "not-here": { http: 503, grpc: "UNAVAILABLE" },
  /** The model is here, under another version: no other pod can help. */
  "no-version": { http: 404, grpc: "NOT_FOUND" },
  "no-path": { http: 404, grpc: "UNIMPLEMENTED" },
  "wrong-method": { http: 405, grpc: "UNIMPLEMENTED" },
  "too-large": { http: 413, grpc: "RESOURCE_EXHAUSTED" },
  "wrong-media": { http: 415, grpc: "UNIMPLEMENTED" },
  /** As many requests wait for the model as may: a later one may find room. Asking another pod is not this server's to say. */
  busy: { http: 429, grpc: "RESOURCE_EXHAUSTED" },
  /** Nobody reads it: the client left while its request waited. */
  gone: { http: 499, grpc: "CANCELLED" },
  fault: { http: 500, grpc: "INTERNAL" },
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

  get grpcStatus(): (typeof refusalKinds)[RefusalKind]["grpc"] {
    return refusalKinds[this.kind].grpc;
  }

  /** Whether another pod should be asked. */
  get notHere(): boolean {
    return this.kind === "not-here";
  }

  /** The headers (gRPC: metadata) that go with it. */
  get headers(): Readonly<Record<string, string>> {
    return headersOf[this.kind] ?? {};
  }
}

const headersOf: Readonly<Partial<Record<RefusalKind, Readonly<Record<string, string>>>>> = {
  // The mark tells Envoy to try another pod. The seconds are for who cannot be sent there: by then the gateway has heard of it.
  "not-here": { "x-warm-not-here": "1", "retry-after": "1" },
  busy: { "retry-after": "1" },
};

export function badRequest(message: string): Refusal {
  return new Refusal("bad-request", message);
}

/** A text from outside, short enough for a message and on one line. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
