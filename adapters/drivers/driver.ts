// Owns the contract with a model server: load, unload, what it holds, whether it lives. suite.ts holds every driver to it.
// Invariants: every call ends by itself within its own deadline, or earlier at its signal; what the server answers is
// parsed here; failures are values with a kind that says whose fault it is, and nothing is thrown but aborts and faults.

import type { Revision } from "#core/model.ts";

/** Which artefact: where it lies and how to get there. */
export type Artefact = Pick<Revision, "storageUri" | "storageKey" | "storageParameters" | "schemaPath">;

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
  /** Absolute, on the disk that the model server sees: a file or a folder. */
  readonly path: string;
  readonly format: string;
  /** Of the format, such as "1". */
  readonly formatVersion?: string;
  /** Where it comes from, for a model server that fetches by itself; then the path is the address's own. */
  readonly artefact?: Artefact;
  /** A file of input and output tensors; absolute, on that disk too. */
  readonly schemaPath?: string;
  /** What was reserved for it; what it takes where the model server does not tell. */
  readonly expectedBytes: number;
  readonly signal: AbortSignal;
}

export interface Loaded {
  readonly kind: "ok";
  readonly sizeBytes: number;
  /** False: the model server does not tell, and this is what was expected. Nothing is learned from it. */
  readonly measured: boolean;
}

export interface HeldModel {
  readonly serverName: string;
  readonly revision: string;
  readonly sizeBytes: number;
}

export type Listed = { readonly kind: "ok"; readonly held: readonly HeldModel[] } | Failure;

/** It died or was restarted, and is about to come back; or it stands still, and nobody knows for how long. */
export type Loss = "died" | "silent";

/** What a model server says of itself. */
export interface ServerLimits {
  readonly capacityBytes?: number;
  /** Loads at a time. */
  readonly loadConcurrency?: number;
  /** Pull and load together. */
  readonly loadTimeoutMs?: number;
  /** What a model takes of which nothing is known. */
  readonly defaultSizeBytes?: number;
  /** Methods whose messages must name the model. */
  readonly idInjections?: readonly IdInjection[];
  /** What it asks for by these names, and does not get here. */
  readonly unheeded?: readonly string[];
}

export interface IdInjection {
  /** `package.Service/Method` */
  readonly method: string;
  /** Numbers of the fields that lead there. */
  readonly path: readonly number[];
}

export interface PredictRequest extends Artefact {
  readonly serverName: string;
  readonly format: string;
  readonly formatVersion?: string;
  readonly artefactBytes: number;
}

/** What the watch over the model server tells. Strictly in turn: up, lost, up, lost ... */
export interface DriverListener {
  /** It answers, for the first time or again, and holds these. */
  onUp(held: readonly HeldModel[]): void;
  /** It died, was restarted or went silent: nothing it held counts any more. */
  onLost(reason: string, how: Loss): void;
}

export interface Driver extends AsyncDisposable {
  /** The model server may read the artefact again at any time: it stays on the disk until the copy is unloaded. */
  readonly keepsArtefact: boolean;
  /** Of a stream of requests the model server takes the header mm-model-id for what all its messages mean; no when absent. */
  readonly streamsByHeader?: boolean;
  /** Watches over the model server until the signal is aborted. */
  start(listener: DriverListener, signal: AbortSignal): Promise<void>;
  /** Loading what is there already, in the same revision, is well. */
  load(request: LoadRequest): Promise<Loaded | Failure>;
  /** Waits, bounded, for the requests in flight. Unloading what is not there is well. */
  unload(serverName: string, signal: AbortSignal): Promise<{ readonly kind: "ok" } | Failure>;
  list(signal: AbortSignal): Promise<Listed>;
  /** Undefined: the server did not say. */
  ready(serverName: string, revision: string, signal: AbortSignal): Promise<boolean | undefined>;
  /** What the whole model server takes; undefined where that cannot be seen. Absent: it tells exactly what its models take. */
  readonly memoryBytes?: (signal: AbortSignal) => Promise<number | undefined>;
  /** Since it is up; absent: it says nothing of the kind. */
  readonly limits?: () => ServerLimits;
  /** The model server's own guess before a load; undefined: it has none. Absent: it cannot be asked. */
  readonly predictBytes?: (request: PredictRequest, signal: AbortSignal) => Promise<number | undefined>;
  /** Requests get no answer: for a while so long a silence counts as a loss. */
  doubt(silenceMs: number): void;
  /** As the watch saw it last. */
  alive(): boolean;
}
