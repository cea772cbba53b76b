// Owns the contract with a model server: load, unload, what it holds, whether it lives. suite.ts holds every driver to it.
// Invariants: every call ends by itself within its own deadline, or earlier at its signal; what the server answers is
// parsed here; failures are values with a kind that says whose fault it is, and nothing is thrown but aborts and faults.

export type FailureKind = "model" | "pod" | "storage" | "capacity";

export const failureKinds: readonly FailureKind[] = ["model", "pod", "storage", "capacity"];

export interface Failure {
  readonly kind: "failed";
  readonly failure: FailureKind;
  readonly reason: string;
}

export interface LoadRequest {
  readonly serverName: string;
  readonly revision: string;
  /** Absolute, on the disk that the model server sees. */
  readonly path: string;
  readonly format: string;
  readonly signal: AbortSignal;
}

export interface HeldModel {
  readonly serverName: string;
  readonly revision: string;
  readonly sizeBytes: number;
}

export type Listed = { readonly kind: "ok"; readonly held: readonly HeldModel[] } | Failure;

/** What the watch over the model server tells. Strictly in turn: up, lost, up, lost ... */
export interface DriverListener {
  /** It answers, for the first time or again, and holds these. */
  onUp(held: readonly HeldModel[]): void;
  /** It died, was restarted or went silent: nothing it held counts any more. */
  onLost(reason: string): void;
}

export interface Driver extends AsyncDisposable {
  /** Watches over the model server until the signal is aborted. */
  start(listener: DriverListener, signal: AbortSignal): Promise<void>;
  /** Loading what is there already, in the same revision, is well. */
  load(request: LoadRequest): Promise<{ readonly kind: "ok"; readonly sizeBytes: number } | Failure>;
  /** Waits, bounded, for the requests in flight. Unloading what is not there is well. */
  unload(serverName: string, signal: AbortSignal): Promise<{ readonly kind: "ok" } | Failure>;
  list(signal: AbortSignal): Promise<Listed>;
  /** Undefined: the server did not say. */
  ready(serverName: string, revision: string, signal: AbortSignal): Promise<boolean | undefined>;
  /** As the watch saw it last. */
  alive(): boolean;
}
