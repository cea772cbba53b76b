// Owns the contract with a store: what an artefact consists of, and the bytes of each part from any offset.
// suite.ts holds every store to it.
// Invariants: a list is complete and not empty; `read` resolves only when the store has said that it gives exactly the
// listed version from exactly this offset. Both throw PullError, or the signal's reason.
import type { ArchiveKind } from "./archive/kinds.ts";

export interface Digest {
  readonly algorithm: "md5" | "sha256" | "sha1" | "crc32" | "git-sha1";
  readonly hex: string;
}

export interface StoredFile {
  /** Inside the artefact, as parseRelativePath gives it. */
  readonly path: string;
  /** What the store calls it. */
  readonly ref: string;
  /** For people. */
  readonly what: string;
  /** Undefined: the store does not say before the end. */
  readonly sizeBytes: number | undefined;
  /** Another one for other content; empty when the store has none. */
  readonly version: string;
  readonly digest?: Digest;
  /** It is an archive, and the artefact is what is in it. */
  readonly archive?: ArchiveKind;
}

export interface Reading {
  /** Ends when the signal is aborted. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Of the whole file, where the store tells it only now. */
  readonly digest?: Digest;
}

export interface Listing {
  /** What the artefact is called on the disk: a file of this name, or a folder that holds the files. */
  readonly name: string;
  /** One file, called by the artefact's own name. */
  readonly single: boolean;
  /** The files are layers of an image, in their order, and the artefact is what they hold below `models/`. */
  readonly layers?: boolean;
  readonly files: readonly StoredFile[];
}

export interface Store {
  list(signal: AbortSignal): Promise<Listing>;
  /** One more file of the same place, such as a schema: by its path from the root of the bucket, container or server. */
  find(path: string, signal: AbortSignal): Promise<StoredFile>;
  read(file: StoredFile, fromByte: number, signal: AbortSignal): Promise<Reading>;
  /**
   * Of the whole file, for a transfer that goes on behind what has come already: no client checks more than what it reads.
   * Undefined: the store has none. Absent: it told all that it has with the list or the first reading.
   */
  digest?(file: StoredFile, signal: AbortSignal): Promise<Digest | undefined>;
}

/** More files are refused. */
export const maxFiles = 10_000;
