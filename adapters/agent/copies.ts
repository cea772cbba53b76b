// Owns what a copy is and which states follow which. Every change of state goes through `assertArrow`.
//
//        +-------------- cancelled, refused, expired ---------------+
//        |                                                          v
//   gone --> queued --> loading --> ready --> leaving ----------> gone
//     |        |           |          |  (unloaded, server lost)    ^
//     |        v           v          +--- missing, server lost ----+
//     |      failed <------+                                        |
//     |        +--> queued (asked again)      +--- forgotten -------+
//     +--> ready (the model server holds it already: adopted)
import type { FailureKind } from "../drivers/driver.ts";

export type CopyState = "queued" | "loading" | "ready" | "leaving" | "failed" | "gone";

export interface CopyName {
  readonly model: string;
  readonly revision: string;
  readonly slot: number;
}

/** `server-died`: the model server died while it loaded this one, which may be why. */
export type CopyFailureKind = FailureKind | "server-died";

export interface CopyFailure {
  readonly kind: CopyFailureKind;
  /** For people, at most `maxReasonLength` characters. */
  readonly reason: string;
  /** With `server-died`: how many loads were under way in the model server, this one included. */
  readonly suspects?: number | undefined;
}

/** One copy as gateways are told it. */
export interface CopyView extends CopyName {
  readonly state: CopyState;
  /** What is promised while it loads, what it takes afterwards; 0 in the other states. */
  readonly sizeBytes: number;
  readonly lastUsedMs: number;
  readonly failure?: CopyFailure;
}

export const maxReasonLength = 500;

/** No name holds an `@`. */
export function copyKey(copy: { readonly model: string; readonly revision: string }): string {
  return `${copy.model}@${copy.revision}`;
}

const arrows: Readonly<Record<CopyState, readonly CopyState[]>> = {
  gone: ["queued", "ready"],
  queued: ["loading", "failed", "gone", "ready"],
  loading: ["ready", "failed"],
  ready: ["leaving", "gone"],
  leaving: ["gone"],
  failed: ["queued", "gone", "ready"],
};

/** A step along no arrow is a fault of the holding. */
export function assertArrow(from: CopyState, to: CopyState): void {
  if (!arrows[from].includes(to)) throw new Error(`a copy cannot go from ${from} to ${to}`);
}
