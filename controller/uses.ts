// Owns which models could use which runtime, and which claims they name: kept up as each model is looked at, so that a
// runtime's question costs nothing.

export interface Uses {
  /** What this model uses now; nothing takes it out. */
  set(name: string, runtimes: readonly string[], claims: readonly string[]): void;
  count(runtime: string): number;
  /** The models of a runtime. */
  waiting(runtime: string): Iterable<string>;
  /** Claims that its models name. */
  claims(runtime: string): ReadonlySet<string>;
  /** Models in all. */
  readonly size: number;
}

interface Use {
  readonly runtimes: readonly string[];
  readonly claims: readonly string[];
}

/** `onChange`: a runtime's first model came, its last one went, or its claims are others. */
export function createUses(onChange: (runtime: string) => void): Uses {
  const uses = new Map<string, Use>();
  const models = new Map<string, Set<string>>();
  /** Runtime -> claim -> how many models name it. */
  const claims = new Map<string, Map<string, number>>();

  function count(runtime: string, names: readonly string[], by: 1 | -1): boolean {
    const known = claims.get(runtime) ?? new Map<string, number>();
    claims.set(runtime, known);
    let changed = false;
    for (const name of names) {
      const before = known.get(name) ?? 0;
      const after = before + by;
      if (after > 0) known.set(name, after);
      else known.delete(name);
      changed ||= before === 0 || after <= 0;
    }
    return changed;
  }

  return {
    set(name, runtimes, named) {
      const before = uses.get(name);
      if (before !== undefined && sameList(before.runtimes, runtimes) && sameList(before.claims, named)) return;
      const touched = new Set<string>();
      for (const runtime of runtimes) {
        const of = models.get(runtime) ?? new Set<string>();
        models.set(runtime, of);
        if (of.size === 0) touched.add(runtime);
        of.add(name);
        // Added before the old ones are taken away, so that what stays never goes in between.
        if (count(runtime, named, 1)) touched.add(runtime);
      }
      for (const runtime of before?.runtimes ?? []) {
        if (count(runtime, before?.claims ?? [], -1)) touched.add(runtime);
        const of = models.get(runtime);
        if (!runtimes.includes(runtime) && of?.delete(name) === true && of.size === 0) touched.add(runtime);
      }
      if (runtimes.length === 0) uses.delete(name);
      else uses.set(name, { runtimes, claims: named });
      for (const runtime of touched) onChange(runtime);
    },
    count: (runtime) => models.get(runtime)?.size ?? 0,
    waiting: (runtime) => models.get(runtime) ?? [],
    claims: (runtime) => new Set(claims.get(runtime)?.keys()),
    get size() {
      return uses.size;
    },
  };
}

function sameList(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((each, at) => each === other[at]);
}
