// Owns why a request for a model will not be answered now.
import type { ErrorCode } from "#core/errors.ts";

export interface Failure {
  readonly kind: "failed";
  readonly code: ErrorCode;
  readonly reason: string;
  readonly retryAfterMs?: number;
}
