// Owns why a request for a model will not be answered now.
import type { ErrorCode } from "#core/errors.ts";
import type { FailureKind } from "./fleet.ts";

export interface Failure {
  readonly kind: "failed";
  readonly code: ErrorCode;
  readonly reason: string;
  readonly retryAfterMs?: number;
}

const codes: Readonly<Record<FailureKind, ErrorCode>> = {
  model: "model-load-failed",
  pod: "pod-failed",
  storage: "storage-unavailable",
  capacity: "no-capacity",
  "server-died": "pod-failed",
};

export function codeOf(kind: FailureKind): ErrorCode {
  return codes[kind];
}
