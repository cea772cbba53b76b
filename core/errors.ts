// Owns the closed catalogue of everything Warmpath refuses or fails with, and the one error class that carries a code.
// Invariants: a code is never reused for another meaning; two codes never share a reason; docs/errors.md is held to
// describeErrors(). gRPC numbers: https://grpc.io/docs/guides/status-codes/

/** What a caller may do with the same request: `never` until someone changes something, `later` after a wait, `elsewhere` at once at another pod or gateway. */
export type Retry = "never" | "later" | "elsewhere";

export interface ErrorEntry {
  /** gRPC status code. */
  readonly grpc: number;
  /** HTTP status code. */
  readonly http: number;
  readonly retry: Retry;
  /** How loudly the place that handles it logs it. */
  readonly log: "debug" | "info" | "warn" | "error";
  /** Condition reason on Kubernetes objects. */
  readonly reason: string;
  /** One sentence for the documentation. */
  readonly says: string;
}

export const errorCatalogue = Object.freeze({
  "invalid-name": {
    grpc: 3,
    http: 400,
    retry: "never",
    log: "debug",
    reason: "InvalidName",
    says: "The name of a model or revision breaks the naming rule.",
  },
  "invalid-request": {
    grpc: 3,
    http: 400,
    retry: "never",
    log: "debug",
    reason: "InvalidRequest",
    says: "The request is malformed: its path, headers or body do not say what the protocol asks for.",
  },
  "body-too-large": {
    grpc: 8,
    http: 413,
    retry: "never",
    log: "debug",
    reason: "BodyTooLarge",
    says: "The body of the request is over the limit.",
  },
  unauthenticated: {
    grpc: 16,
    http: 401,
    retry: "never",
    log: "info",
    reason: "Unauthenticated",
    says: "The caller did not prove who it is.",
  },
  "permission-denied": {
    grpc: 7,
    http: 403,
    retry: "never",
    log: "info",
    reason: "PermissionDenied",
    says: "The caller is known, and no policy lets it do this.",
  },
  // 404 and not 501: a path nobody serves is the client's mistake, and must not look like a failing server to retries and alarms.
  "unsupported-method": {
    grpc: 12,
    http: 404,
    retry: "never",
    log: "debug",
    reason: "UnsupportedMethod",
    says: "The path or gRPC method is no inference call that the gateway lets through.",
  },
  "method-not-allowed": {
    grpc: 12,
    http: 405,
    retry: "never",
    log: "debug",
    reason: "MethodNotAllowed",
    says: "The path exists, but not with this HTTP method.",
  },
  "model-not-found": {
    grpc: 5,
    http: 404,
    retry: "never",
    log: "debug",
    reason: "ModelNotFound",
    says: "No model of this name is registered.",
  },
  "revision-not-found": {
    grpc: 5,
    http: 404,
    retry: "never",
    log: "debug",
    reason: "RevisionNotFound",
    says: "The model is registered, but has no such revision.",
  },
  "pod-not-found": {
    grpc: 5,
    http: 404,
    retry: "never",
    log: "debug",
    reason: "PodNotFound",
    says: "No pod of this id is there.",
  },
  "already-exists": {
    grpc: 6,
    http: 409,
    retry: "never",
    log: "debug",
    reason: "AlreadyExists",
    says: "A model or revision of this name exists already with another content.",
  },
  // ABORTED, not FAILED_PRECONDITION: gRPC's own rule for a read-modify-write that lost.
  conflict: {
    grpc: 10,
    http: 409,
    retry: "later",
    log: "info",
    reason: "Conflict",
    says: "The record changed since it was read; read it again and repeat the change.",
  },
  "precondition-failed": {
    grpc: 9,
    http: 412,
    retry: "never",
    log: "debug",
    reason: "PreconditionFailed",
    says: "The record is not in the state that the call asks for, or others refer to it.",
  },
  // A bad artefact fails on every pod: a status that clients and Envoy retry (UNAVAILABLE, 503) would be a lie.
  "model-load-failed": {
    grpc: 9,
    http: 424,
    retry: "never",
    log: "warn",
    reason: "ModelLoadFailed",
    says: "The model itself is at fault: its artefact is missing, broken or refused by the model server.",
  },
  "storage-unavailable": {
    grpc: 14,
    http: 503,
    retry: "later",
    log: "warn",
    reason: "StorageUnavailable",
    says: "The model's artefact cannot be fetched now, because its storage does not answer or refuses.",
  },
  "pod-failed": {
    grpc: 14,
    http: 503,
    retry: "elsewhere",
    log: "warn",
    reason: "PodFailed",
    says: "A pod failed while it loaded or served the model; another pod may do better.",
  },
  // The fleet is at its limit, not this caller: hence 503 and not 429.
  "no-capacity": {
    grpc: 8,
    http: 503,
    retry: "later",
    log: "warn",
    reason: "NoCapacity",
    says: "No pod can make room for the model now.",
  },
  "queue-full": {
    grpc: 8,
    http: 429,
    retry: "later",
    log: "warn",
    reason: "QueueFull",
    says: "Too many requests or loads are waiting already.",
  },
  "quota-exceeded": {
    grpc: 8,
    http: 429,
    retry: "later",
    log: "info",
    reason: "QuotaExceeded",
    says: "The tenant has reached one of its quotas: of requests per second, requests that wait, loads, or warm bytes.",
  },
  "no-pods": {
    grpc: 14,
    http: 503,
    retry: "later",
    log: "warn",
    reason: "NoPods",
    says: "No pod that suits the model is up.",
  },
  "no-runtime": {
    grpc: 9,
    http: 503,
    retry: "later",
    log: "warn",
    reason: "NoRuntime",
    says: "No pod has a runtime and labels that suit the model.",
  },
  "deadline-exceeded": {
    grpc: 4,
    http: 504,
    retry: "later",
    log: "info",
    reason: "DeadlineExceeded",
    says: "The request's deadline passed before the model was ready or had answered.",
  },
  // 499 is what Envoy and nginx log for it; nobody is left to read it.
  cancelled: {
    grpc: 1,
    http: 499,
    retry: "never",
    log: "debug",
    reason: "Cancelled",
    says: "The caller went away before the answer was ready.",
  },
  unavailable: {
    grpc: 14,
    http: 503,
    retry: "elsewhere",
    log: "warn",
    reason: "Unavailable",
    says: "This process is starting, stopping or cut off from what it needs.",
  },
  "registry-unavailable": {
    grpc: 14,
    http: 503,
    retry: "later",
    log: "warn",
    reason: "RegistryUnavailable",
    says: "The registry does not answer or refuses: what is registered stays as it is and goes on being served.",
  },
  // Not retried blindly: somebody has to look.
  "registry-replaced": {
    grpc: 9,
    http: 503,
    retry: "later",
    log: "error",
    reason: "RegistryReplaced",
    says: "The registry came back without models that this gateway knows: they are served on, and nothing is changed until they are restored.",
  },
  internal: {
    grpc: 13,
    http: 500,
    retry: "never",
    log: "error",
    reason: "Internal",
    says: "A fault of Warmpath itself: please report it.",
  },
} as const satisfies Record<string, ErrorEntry>);

export type ErrorCode = keyof typeof errorCatalogue;

/** The catalogue's codes, in its order. */
export const errorCodes: readonly ErrorCode[] = Object.freeze(Object.keys(errorCatalogue).filter(isErrorCode));

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorCatalogue, text);
}

/** A fault with a code of the catalogue. Expected refusals are union values and never become one below the edges. */
export class WarmpathError extends Error {
  override readonly name = "WarmpathError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  get retry(): Retry {
    return errorCatalogue[this.code].retry;
  }
}

const maxMessageLength = 1_000;
const maxCauses = 4;

/** One line for people from whatever was thrown, its causes included; never throws and never longer than 1,000 characters. */
export function errorMessage(thrown: unknown): string {
  const parts: string[] = [];
  let current = thrown;
  for (let depth = 0; depth <= maxCauses; depth++) {
    const part = ownMessage(current);
    // A wrapper that repeats its cause's words says nothing new.
    if (!parts.some((said) => said.includes(part))) parts.push(part);
    const cause = causeOf(current);
    if (cause === undefined) break;
    current = cause;
  }
  const line = parts.join(": ").replaceAll(/\s+/g, " ").trim();
  return line.length <= maxMessageLength ? line : `${line.slice(0, maxMessageLength - 3).toWellFormed()}...`;
}

function ownMessage(thrown: unknown): string {
  try {
    if (typeof thrown === "string") return thrown === "" ? "unknown error" : thrown;
    if (thrown instanceof Error) {
      // What a refused connection to several addresses throws has no message of its own.
      if (thrown.message === "" && thrown instanceof AggregateError) {
        return thrown.errors.slice(0, 3).map(ownMessage).join("; ") || thrown.name;
      }
      return thrown.message === "" ? thrown.name : thrown.message;
    }
    if (typeof thrown === "object" && thrown !== null && "message" in thrown && typeof thrown.message === "string") {
      return thrown.message;
    }
    return String(thrown);
  } catch {
    return "unknown error";
  }
}

function causeOf(thrown: unknown): unknown {
  try {
    return thrown instanceof Error ? thrown.cause : undefined;
  } catch {
    return undefined;
  }
}

/** The catalogue as a Markdown table: the body of docs/errors.md. */
export function describeErrors(): string {
  const rows = errorCodes.map((code) => {
    const { grpc, http, retry, log, reason, says } = errorCatalogue[code];
    return `| \`${code}\` | ${grpcNames[grpc] ?? "UNKNOWN"} (${grpc}) | ${http} | ${retry} | ${log} | \`${reason}\` | ${says} |`;
  });
  return [
    "| code | gRPC | HTTP | retry | log | reason | meaning |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
}

const grpcNames = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];
