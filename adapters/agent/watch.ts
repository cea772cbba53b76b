// Owns what is told of an agent's work while it goes on, for metrics and traces. Nothing is decided by it; what is told
// must not throw.
import type { LoadClass } from "#core/loadqueue.ts";
import type { FailureKind } from "../drivers/driver.ts";
import type { RefusalWhy } from "./events.ts";

export interface LoadFacts {
  readonly model: string;
  readonly revision: string;
  readonly loadClass: LoadClass;
  /** From the first ask to its start. */
  readonly queuedMs: number;
  readonly reservedBytes: number;
  /** Of the first gateway that asked with one. */
  readonly traceparent: string | undefined;
}

/** Where the time of a load went; steps that were not come to are 0. */
export interface LoadTimes extends Readonly<Record<LoadStep, number>> {
  readonly model: string;
  readonly revision: string;
  readonly queue: number;
}

export type LoadEnd =
  | { readonly kind: "ok"; readonly sizeBytes: number }
  | { readonly kind: "failed"; readonly failure: FailureKind; readonly reason: string };

/**
 * What follows on one another in a load, from its start to its end: `pull` fetches the artefact, `turn` waits until the model
 * server may be asked, `server` is the model server's own load, `measure` looks what it takes with it.
 */
export const loadSteps = ["pull", "turn", "server", "measure"] as const;
export type LoadStep = (typeof loadSteps)[number];

export interface LoadWatch {
  step(name: LoadStep): (failure?: string) => void;
  end(end: LoadEnd): void;
}

export interface DepartureFacts {
  readonly model: string;
  readonly revision: string;
  /** Since its last use. */
  readonly idleMs: number;
  readonly sizeBytes: number;
  /** Of the load that it makes room for. */
  readonly traceparent: string | undefined;
}

export interface DepartureWatch {
  /** No gateway sends requests there any more, or it was waited for long enough. */
  withdrawn(): void;
  /** An unload was tried. */
  unloaded(failure?: string): void;
}

export interface AgentWatch {
  loadStarts(load: LoadFacts): LoadWatch;
  /** Before it started: the artefact could not be looked up. */
  probeFailed(failure: FailureKind): void;
  refused(why: RefusalWhy): void;
  leaves(copy: DepartureFacts): DepartureWatch;
}

const noDeparture: DepartureWatch = { withdrawn: () => undefined, unloaded: () => undefined };

/** Looks away. */
export const noWatch: AgentWatch = {
  loadStarts: () => ({ step: () => () => undefined, end: () => undefined }),
  probeFailed: () => undefined,
  refused: () => undefined,
  leaves: () => noDeparture,
};
