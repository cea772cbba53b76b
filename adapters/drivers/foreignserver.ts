// Owns what a foreign model server has to offer to be driven by foreign.ts: one kind of server is one ForeignServer.
import type { Failure, LoadRequest, PredictRequest, ServerLimits } from "./driver.ts";

export type Done = { readonly kind: "ok" } | Failure;

export interface LoadedThere {
  readonly kind: "ok";
  /** What it takes of the machine's memory; absent: the server does not tell. */
  readonly sizeBytes?: number;
  /** It weighs so much at least, for what it takes elsewhere. */
  readonly leastBytes?: number;
}

/** One kind of model server. Calls end by their signal or a deadline of their own; expected failures are values. */
export interface ForeignServer extends AsyncDisposable {
  readonly keepsArtefact: boolean;
  /** A load that its caller gives up is cancelled, and an unload follows at once; otherwise it goes on to its own end. */
  readonly cancelsLoads?: boolean;
  /** Where its life is watched. */
  readonly address: string;
  readonly http2: boolean;
  /** Before it is looked for: what it waits for itself. */
  readonly prepare?: () => Promise<void>;
  /** Does it answer? Absent: that it is connected must do. */
  readonly live?: (signal: AbortSignal) => Promise<boolean>;
  /** In each of its lives before anything else, with the names that it may hold from before; failed: not yet. */
  readonly greet?: (remembered: readonly string[], signal: AbortSignal) => Promise<Done>;
  /** As of a driver, once it was greeted. */
  readonly limits?: () => ServerLimits;
  readonly predictBytes?: (request: PredictRequest, signal: AbortSignal) => Promise<number | undefined>;
  /** The names of all that it holds. Absent: it cannot tell. */
  readonly index?: (signal: AbortSignal) => Promise<{ readonly kind: "ok"; readonly names: ReadonlySet<string> } | Failure>;
  /** Absent: it cannot tell, and is believed to hold what it was made to load in this life. */
  readonly ready?: (serverName: string, signal: AbortSignal) => Promise<boolean | undefined>;
  /** Of one that cannot tell readiness: does it say that it does not hold it? */
  readonly denies?: (serverName: string, signal: AbortSignal) => Promise<boolean>;
  load(request: LoadRequest): Promise<LoadedThere | Failure>;
  /** Unloading what is not there is well. */
  unload(serverName: string, signal: AbortSignal): Promise<Done>;
  /** Nothing under this name is on the server any more. */
  readonly forget?: (serverName: string) => Promise<void>;
}
