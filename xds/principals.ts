// Owns which principals each model has scopes for, where callers must prove who they are: there a scope's key is the
// model's name and the principal, and a model is not found for who was not let in. Scopes are made as principals come,
// not for all who might.
// Invariants: only models of the table have principals; a scope that was taken back is remembered until Envoy has
// acknowledged that; how many there are is bounded: who comes later is served all the same, by way of the gateway.

export interface Principals {
  /** The scope's name, when it is a new one. */
  allow(model: string, principal: string): string | undefined;
  has(model: string, principal: string): boolean;
  of(model: string): Iterable<string>;
  models(): Iterable<string>;
  /** Scopes of the model that Envoy has or should have. */
  scopes(model: string): readonly string[];
  /** Scopes of the model that Envoy should drop, and may not have dropped yet. */
  leaving(model: string): readonly string[];
  /** Takes back the model's scopes, all or those of some; returns their names. */
  revoke(model: string, keep?: (principal: string) => boolean): readonly string[];
  /** Forgets what is gone from Envoy. */
  sweep(isGone: (scope: string) => boolean): void;
}

const maxOfModel = 1_000;
const maxInAll = 200_000;

/** No name holds a space. */
export function scopeName(model: string, principal: string): string {
  return `${model} ${principal}`;
}

export function parseScopeName(scope: string): { readonly model: string; readonly principal: string } | undefined {
  const at = scope.indexOf(" ");
  return at === -1 ? undefined : { model: scope.slice(0, at), principal: scope.slice(at + 1) };
}

export function createPrincipals(): Principals {
  const byModel = new Map<string, Set<string>>();
  const gone = new Map<string, Set<string>>();
  let count = 0;

  return {
    allow(model, principal) {
      const known = byModel.get(model) ?? new Set();
      if (known.has(principal) || known.size >= maxOfModel || count >= maxInAll) return undefined;
      byModel.set(model, known.add(principal));
      count += 1;
      const scope = scopeName(model, principal);
      const left = gone.get(model);
      left?.delete(scope);
      if (left?.size === 0) gone.delete(model);
      return scope;
    },
    has: (model, principal) => byModel.get(model)?.has(principal) === true,
    of: (model) => byModel.get(model) ?? [],
    models: () => byModel.keys(),
    scopes: (model) => Array.from(byModel.get(model) ?? [], (principal) => scopeName(model, principal)),
    leaving: (model) => [...(gone.get(model) ?? [])],
    revoke(model, keep = () => false) {
      const known = byModel.get(model);
      const scopes: string[] = [];
      for (const principal of Array.from(known ?? [])) {
        if (keep(principal)) continue;
        known?.delete(principal);
        count -= 1;
        scopes.push(scopeName(model, principal));
      }
      if (known?.size === 0) byModel.delete(model);
      if (scopes.length > 0) gone.set(model, new Set([...(gone.get(model) ?? []), ...scopes]));
      return scopes;
    },
    sweep(isGone) {
      for (const [model, scopes] of gone) {
        for (const scope of scopes) if (isGone(scope)) scopes.delete(scope);
        if (scopes.size === 0) gone.delete(model);
      }
    },
  };
}
