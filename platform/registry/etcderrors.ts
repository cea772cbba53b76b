// Owns what etcd's and etcd3's errors mean to the registry. etcd3 tells them by class; what it leaves general is told
// apart by etcd's own texts (https://github.com/etcd-io/etcd/blob/main/api/v3rpc/rpctypes/error.go).
import {
  EtcdAuthenticationFailedError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCNotImplementedError,
  GRPCOutOfRangeError,
  GRPCResourceExhastedError,
  GRPCUnauthenticatedError,
} from "etcd3";
import { errorMessage, WarmpathError } from "#core/errors.ts";

/**
 * `away`: nobody answered, or not in time; whether a write was done is not known. `token`: the call was refused before it
 * did anything, a new token is wanted. `refused`: credentials or rights are wrong, or etcd is full.
 */
export type EtcdFailure = "away" | "token" | "lease gone" | "compacted" | "refused" | "fault";

/** How a refused token is told. */
export const tokenIsSpent = "the token is not accepted";

// etcd has several ways to say that a token is worth nothing any more.
const tokenTexts = [tokenIsSpent, "revision in header is old", "revision of auth store is old"];

export function classify(error: unknown): EtcdFailure {
  const text = errorMessage(error);
  if (error instanceof EtcdLeaseInvalidError) return "lease gone";
  if (text.includes("required revision has been compacted")) return "compacted";
  if (tokenTexts.some((part) => text.includes(part))) return "token";
  if (
    // Said to who names no user, as an invalid argument.
    text.includes("user name is empty") ||
    error instanceof EtcdPermissionDeniedError ||
    error instanceof EtcdAuthenticationFailedError ||
    error instanceof GRPCUnauthenticatedError ||
    error instanceof GRPCResourceExhastedError ||
    error instanceof GRPCFailedPreconditionError
  ) {
    return "refused";
  }
  // What was asked for cannot be: our own mistake, or no etcd.
  return error instanceof GRPCInvalidArgumentError ||
    error instanceof GRPCOutOfRangeError ||
    error instanceof GRPCNotImplementedError ||
    error instanceof TypeError
    ? "fault"
    : "away";
}

/** What callers get; `where` names the registry without its credentials. */
export function explain(error: unknown, where: string): WarmpathError {
  if (error instanceof WarmpathError) return error;
  const kind = classify(error);
  const reason = errorMessage(error).replace(/^\w*Error: /, "");
  const text: Readonly<Record<EtcdFailure, string>> = {
    away: "does not answer",
    token: "does not accept its own token",
    "lease gone": "has ended the lease",
    compacted: "has forgotten what was asked for",
    refused: "refuses",
    fault: "does not understand the call",
  };
  return new WarmpathError(
    kind === "fault" ? "internal" : "registry-unavailable",
    `the registry ${where} ${text[kind]}: ${reason}`,
    {
      cause: error,
    },
  );
}
