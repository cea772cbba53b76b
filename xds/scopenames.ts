// Owns what scopes are called towards Envoy. Envoy copies the names of all its scopes with each change of one, and a string of
// over 22 bytes (libc++) is memory of its own in each copy: with 100,000 scopes of 39 bytes a change took its main thread
// 36 ms, with short ones 5. So a long name goes as a hash; what it stands for is known here as long as the table or Envoy has it.
// Invariant: towards Envoy no scope has a long name. A short one never begins as a hash does: no model's name can.
import { hash } from "node:crypto";

const longestName = 22;
const hashMark = "#";

/** The scope's name for Envoy. */
export function shortScopeName(name: string): string {
  if (name.length <= longestName) return name;
  return hashMark + hash("sha256", name, "base64url").slice(0, longestName - hashMark.length);
}

export interface ScopeNames {
  /** It changed in the table: it may be asked for by its short name from now on. */
  changed(name: string): void;
  /** The name in the table; undefined when nobody knows it, so that it is not there. */
  find(short: string): string | undefined;
  /** Envoy has dropped it, or never had it. */
  gone(short: string): void;
  /** No Envoy is there any more: what only Envoy had is forgotten. Looks at all long names. */
  forget(): void;
}

/** `isThere`: the table has a scope of this name. */
export function createScopeNames(isThere: (name: string) => boolean): ScopeNames {
  const long = new Map<string, string>();
  return {
    changed(name) {
      if (name.length > longestName) long.set(shortScopeName(name), name);
    },
    find: (short) => long.get(short) ?? (short.length <= longestName && !short.startsWith(hashMark) ? short : undefined),
    gone(short) {
      const name = long.get(short);
      if (name !== undefined && !isThere(name)) long.delete(short);
    },
    forget() {
      for (const [short, name] of long) if (!isThere(name)) long.delete(short);
    },
  };
}

/**
 * What a scope's version is towards Envoy. Envoy tells names and versions to a gateway that starts anew; which principal a
 * hash was made of stands in the version then.
 */
export function tellVersion(version: string, name: string, withName: boolean): string {
  return withName && name.length > longestName ? `${version} ${name}` : version;
}

/** The scope's name in the table, told by an earlier gateway; undefined when it cannot be known. */
export function nameOfTold(short: string, version: string): string | undefined {
  if (!short.startsWith(hashMark)) return short;
  const at = version.indexOf(" ");
  const name = at === -1 ? "" : version.slice(at + 1);
  return shortScopeName(name) === short ? name : undefined;
}
