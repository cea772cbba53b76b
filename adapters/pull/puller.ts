// Owns how artefacts reach the disk that the model server reads: one puller per scheme behind one interface.
// Invariants: a pulled path is absolute, inside what the puller is allowed to give out, and stays there until release.
// Failures: `model` when the artefact itself is at fault (nothing there, no such place allowed), which no other pod would
// cure; `storage` when it could not be reached now.
import type { Failure } from "../drivers/driver.ts";

export interface Pulled {
  readonly kind: "ok";
  readonly path: string;
  readonly sizeBytes: number;
  /** The model server has read it, or never will. Further calls do nothing. */
  release(): Promise<void>;
}

export interface Puller {
  /** How many bytes a pull would bring, without bringing them. */
  probe(storageUri: string, signal: AbortSignal): Promise<{ readonly kind: "ok"; readonly sizeBytes: number } | Failure>;
  pull(storageUri: string, signal: AbortSignal): Promise<Pulled | Failure>;
}

/** Sends each address to the puller of its scheme. */
export function createPullers(byScheme: Readonly<Record<string, Puller>>): Puller {
  const find = (storageUri: string): Puller | Failure => {
    const scheme = storageUri.slice(0, Math.max(0, storageUri.indexOf(":")));
    if (Object.hasOwn(byScheme, scheme) && byScheme[scheme] !== undefined) return byScheme[scheme];
    const known = Object.keys(byScheme).map((name) => `${name}:`);
    return { kind: "failed", failure: "model", reason: `this pod cannot fetch from ${scheme}:, only from ${known.join(", ")}` };
  };
  return {
    async probe(storageUri, signal): Promise<{ readonly kind: "ok"; readonly sizeBytes: number } | Failure> {
      const puller = find(storageUri);
      return "kind" in puller ? puller : await puller.probe(storageUri, signal);
    },
    async pull(storageUri, signal): Promise<Pulled | Failure> {
      const puller = find(storageUri);
      return "kind" in puller ? puller : await puller.pull(storageUri, signal);
    },
  };
}
