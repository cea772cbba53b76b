// Owns how artefacts reach the disk that the model server reads: one puller per scheme behind one interface.
// Invariants: a pulled path is absolute, complete, inside what the puller is allowed to give out, and stays there until
// release. Nothing partial is ever given out.
// Failures: `model` when the artefact itself is at fault (nothing there, no such place allowed, not what it should be), which
// no other pod would cure; `storage` when it could not be reached now, or its settings are not right yet; `capacity` when
// the pod's disk cannot take it. Anything else that is thrown is the signal's reason or a fault.
import type { Artefact, Failure } from "../drivers/driver.ts";

export interface Pulled {
  readonly kind: "ok";
  /** A file or a folder. */
  readonly path: string;
  /** The file of input and output tensors, absolute; there when the artefact names one. */
  readonly schemaPath?: string;
  readonly sizeBytes: number;
  /** The model server has read it, or never will. Further calls do nothing. */
  release(): Promise<void>;
}

export type Moved = (bytes: number) => void;

export type Probed = { readonly kind: "ok"; readonly sizeBytes: number } | Failure;

export interface Puller {
  /** How many bytes a pull would bring, without bringing them. */
  probe(artefact: Artefact, signal: AbortSignal): Promise<Probed>;
  /** `moved`: told of bytes as they come. */
  pull(artefact: Artefact, signal: AbortSignal, moved?: Moved): Promise<Pulled | Failure>;
}

/** Sends each address to the puller of its scheme. */
export function createPullers(byScheme: Readonly<Record<string, Puller>>): Puller {
  const find = ({ storageUri }: Artefact): Puller | Failure => {
    const scheme = storageUri.slice(0, Math.max(0, storageUri.indexOf(":")));
    if (Object.hasOwn(byScheme, scheme) && byScheme[scheme] !== undefined) return byScheme[scheme];
    const known = Object.keys(byScheme).map((name) => `${name}:`);
    return { kind: "failed", failure: "model", reason: `this pod cannot fetch from ${scheme}:, only from ${known.join(", ")}` };
  };
  return {
    async probe(artefact, signal): Promise<Probed> {
      const puller = find(artefact);
      return "kind" in puller ? puller : await puller.probe(artefact, signal);
    },
    async pull(artefact, signal, moved): Promise<Pulled | Failure> {
      const puller = find(artefact);
      return "kind" in puller ? puller : await puller.pull(artefact, signal, moved);
    },
  };
}
