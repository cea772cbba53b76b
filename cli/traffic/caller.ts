// Owns what the two ways of calling a model have in common.
import type { AnswerTensor, InferBody } from "#cli/library/answer.ts";

export type CallResult =
  | { readonly kind: "answered"; readonly outputs: readonly AnswerTensor[]; readonly miss: boolean }
  | { readonly kind: "failed"; readonly reason: string };

/** Calls models over one protocol. Disposing it closes its connections. */
export interface Caller extends AsyncDisposable {
  readonly protocol: "rest" | "grpc";
  infer(model: string, body: InferBody): Promise<CallResult>;
}

/** On answers to requests that waited for a load: the milliseconds waited. */
export const loadHeader = "x-warm-load-ms";

/** PEM; plain text without. */
export interface ClientTls {
  readonly ca: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}
