// Owns what can go wrong with a pull: a closed list, whose fault each is, and whether another try may help.
// Invariant: a reason names the object, and holds nothing that a store or its client said but codes and statuses, so that
// no secret gets into it.
import type { Failure } from "../drivers/driver.ts";

export const troubles = {
  /** There is nothing at this place. */
  absent: { failure: "model", again: false },
  /** What is there, or its address, cannot be taken. */
  unsuitable: { failure: "model", again: false },
  /** The store knows who asks and says no. */
  denied: { failure: "storage", again: false },
  /** The store does not accept the credentials. */
  credentials: { failure: "storage", again: false },
  /** The storage settings of this pod do not say how to get there. */
  settings: { failure: "storage", again: false },
  /** No answer, a broken one, or an error of the store itself. */
  unreachable: { failure: "storage", again: true },
  /** Not the bytes that were promised. */
  corrupt: { failure: "storage", again: true },
  /** The object is not the one that was listed. */
  changed: { failure: "storage", again: false },
  /** The pod's disk cannot take it. */
  "too-large": { failure: "capacity", again: false },
} as const satisfies Record<string, { readonly failure: Failure["failure"]; readonly again: boolean }>;

export type Trouble = keyof typeof troubles;

/** Thrown from the depth of a transfer and turned into a failure where the puller ends. */
export class PullError extends Error {
  override readonly name = "PullError";
  readonly trouble: Trouble;
  /** What the store asked to wait before another try. */
  readonly waitMs: number;

  constructor(trouble: Trouble, reason: string, options: { readonly cause?: unknown; readonly waitMs?: number } = {}) {
    super(reason, options);
    this.trouble = trouble;
    this.waitMs = options.waitMs ?? 0;
  }

  get again(): boolean {
    return troubles[this.trouble].again;
  }

  toFailure(): Failure {
    return { kind: "failed", failure: troubles[this.trouble].failure, reason: this.message };
  }
}

/** Of what a store answered to a request about this object. */
export function statusError(
  status: number,
  what: string,
  options: { readonly code?: string; readonly waitMs?: number } = {},
): PullError {
  const code = safeCode(options.code);
  const said = code === undefined ? `status ${status}` : `${code}, status ${status}`;
  const { waitMs = 0 } = options;
  if (status === 404 || status === 410) return new PullError("absent", `there is nothing at ${what} (${said})`);
  if (status === 401) return new PullError("credentials", `the credentials are not accepted for ${what} (${said})`);
  if (status === 403) return new PullError("denied", `the permission to read ${what} is denied (${said})`);
  if (status === 412) return new PullError("changed", `${what} was changed while it was fetched (${said})`);
  if (status === 408 || status === 429 || status >= 500) {
    return new PullError("unreachable", `the store failed to give ${what} (${said})`, { waitMs });
  }
  return new PullError("settings", `the store refused the request for ${what} (${said})`);
}

/** What a connection or a stream ended with. Neither aborts nor faults of ours come here. */
export function connectionError(error: unknown, what: string): PullError {
  if (error instanceof PullError) return error;
  const code = safeCode(errorCode(error));
  return new PullError("unreachable", `the store cannot be reached for ${what}${code === undefined ? "" : ` (${code})`}`, {
    cause: error,
  });
}

/** The code of an error or of what caused it. */
export function errorCode(error: unknown): string | undefined {
  for (let current = error, depth = 0; current instanceof Error && depth < 5; current = current.cause, depth++) {
    if ("code" in current && typeof current.code === "string") return current.code;
    if (current instanceof AggregateError && current.errors.length > 0) return errorCode(current.errors[0]);
  }
  return undefined;
}

/** Only what cannot be a secret. */
export function safeCode(code: string | undefined): string | undefined {
  return code !== undefined && /^[A-Za-z][A-Za-z_]{1,63}$/.test(code) ? code : undefined;
}
