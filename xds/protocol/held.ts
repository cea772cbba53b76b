// Owns the names that wait for another resource to be in Envoy first, each for one.
import type { ResourceName } from "./types.ts";

export interface Held {
  add(name: string, needed: ResourceName): void;
  delete(name: string): void;
  /** Those that waited for it. */
  release(needed: ResourceName): Iterable<string>;
  keys(): Iterable<string>;
  readonly size: number;
}

export function createHeld(): Held {
  const needs = new Map<string, string>();
  const byNeed = new Map<string, Set<string>>();
  const keyOf = ({ typeUrl, name }: ResourceName): string => `${typeUrl} ${name}`;

  function remove(name: string): void {
    const key = needs.get(name);
    if (key === undefined) return;
    needs.delete(name);
    const of = byNeed.get(key);
    of?.delete(name);
    if (of?.size === 0) byNeed.delete(key);
  }

  return {
    add(name, needed) {
      remove(name);
      const key = keyOf(needed);
      needs.set(name, key);
      byNeed.set(key, (byNeed.get(key) ?? new Set<string>()).add(name));
    },
    delete: remove,
    release(needed) {
      const names = byNeed.get(keyOf(needed)) ?? [];
      byNeed.delete(keyOf(needed));
      for (const name of names) needs.delete(name);
      return names;
    },
    keys: () => needs.keys(),
    get size() {
      return needs.size;
    },
  };
}
