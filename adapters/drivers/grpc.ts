// Owns how a gRPC call to a model server ends: what its status means for a copy.
// Invariant: an aborted call throws the reason of its signal; every other end is a value.
import { status as codes } from "@grpc/grpc-js";
import { errorMessage } from "#core/errors.ts";
import type { Failure } from "./driver.ts";

export type Called<T> =
  | { readonly kind: "ok"; readonly answer: T }
  /** `details`: what the server itself said, which may be nothing. */
  | { readonly kind: "error"; readonly code: number; readonly words: string; readonly details: string };

export async function ask<T>(call: Promise<T>, signal: AbortSignal): Promise<Called<T>> {
  try {
    return { kind: "ok", answer: await call };
  } catch (error) {
    signal.throwIfAborted();
    const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
    const details = error instanceof Error && "details" in error && typeof error.details === "string" ? error.details : "";
    const words = details === "" ? errorMessage(error) : details;
    return { kind: "error", code: typeof code === "number" ? code : codes.UNKNOWN, words, details };
  }
}

const nobody: ReadonlySet<number> = new Set([codes.UNAVAILABLE, codes.CANCELLED, codes.DEADLINE_EXCEEDED, codes.UNIMPLEMENTED]);

/** No answer of the method itself: the server is not there, too slow, or another one. */
export function isUnanswered({ code }: { readonly code: number }): boolean {
  return nobody.has(code);
}

export function unansweredCall({ words }: { readonly words: string }): Failure {
  return { kind: "failed", failure: "pod", reason: `the model server did not answer: ${words.slice(0, 400).toWellFormed()}` };
}

export const channelOptions = {
  "grpc.max_receive_message_length": 64 << 20,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.use_local_subchannel_pool": 1,
  "grpc.enable_channelz": 0,
} as const;
