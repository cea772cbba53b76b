// Owns the choice of an implementation.
import { openEmbeddedRegistry } from "./embedded.ts";
import type { Registry } from "./registry.ts";

export interface RegistryTarget {
  readonly kind: "embedded";
  /** The file that keeps it; several processes of one machine may open the same one. */
  readonly file: string;
}

export async function openRegistry(target: RegistryTarget): Promise<Registry> {
  return await openEmbeddedRegistry({ file: target.file });
}
