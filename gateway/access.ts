// Owns who is let in where callers must prove who they are: policies and API keys as the registry has them, the decision
// about a principal that has no scope for a model yet, and the scopes of those that were let in. Envoy turns a hit away by
// not finding it; so all that is decided here is decided once, and again when a policy, a key or a model changes.
import { type AccessRules, anonymous, buildAccessRules, maxPolicies, type Policy, parsePrincipal } from "#core/access.ts";
import type { Model } from "#core/model.ts";
import type { Log } from "#platform/log.ts";
import {
  type ApiKey,
  apiKeyPrefix,
  parseApiKeyRecord,
  parsePolicyRecord,
  policyPrefix,
} from "#platform/registry/accessrecords.ts";
import { type Follower, runFollow } from "#platform/registry/follow.ts";
import { nameOfKey } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import type { RouteTable } from "#xds/main.ts";
import type { Failure } from "./failure.ts";

export interface Access {
  /** Why the caller is turned away; undefined when it is not. `principal`: as Envoy tells it. */
  refusal(principal: string | undefined, model: Model | undefined): Failure | undefined;
  /** The model is warm: from now on the principal's requests for it are hits. */
  letIn(principal: string | undefined, model: string): void;
  /** Whether a scope from before may stay. */
  mayKeep(model: string, principal: string): boolean;
  /** The model changed: whom it is open to may have changed with it. */
  onModel(name: string): void;
}

export interface AccessParts {
  readonly registry: Registry;
  readonly table: Pick<RouteTable, "allow" | "review" | "setKeys">;
  readonly findModel: (name: string) => Model | undefined;
  readonly log: Log;
}

/** Where nobody has to prove anything. */
export const openToAll: Access = {
  refusal: () => undefined,
  letIn: () => undefined,
  mayKeep: () => false,
  onModel: () => undefined,
};

const maxKeys = 10_000;

const unproved = {
  kind: "failed",
  code: "unauthenticated",
  reason: "this needs an API key, a token or a client certificate",
} as const satisfies Failure;

/** Resolves when policies and keys are known; follows them until the signal is aborted. */
export async function openAccess(parts: AccessParts, signal: AbortSignal): Promise<Access & AsyncDisposable> {
  const { registry, table, findModel, log } = parts;
  const policies = new Map<string, Policy>();
  const keys = new Map<string, ApiKey>();
  let rules: AccessRules = buildAccessRules([]);

  function decide(principal: string, model: Model): Failure | undefined {
    const access = rules.decide(principal, model);
    if (access.kind === "allowed") return undefined;
    // Who has proved nothing is not told what is registered.
    return principal === anonymous ? unproved : { kind: "failed", code: access.code, reason: access.reason };
  }

  const mayKeep = (name: string, told: string): boolean => {
    const model = findModel(name);
    const principal = parsePrincipal(told);
    return model !== undefined && principal !== undefined && decide(principal, model) === undefined;
  };

  const stop = new AbortController();
  const ended = AbortSignal.any([signal, stop.signal]);
  const follow = (
    prefix: string,
    held: Map<string, unknown>,
    put: (name: string, value: string) => string | undefined,
    changed: () => void,
  ): { readonly synced: Promise<void>; readonly running: Promise<void> } => {
    const synced = Promise.withResolvers<void>();
    let planned = false;
    // What comes in one batch is one change.
    const plan = (): void => {
      if (planned) return;
      planned = true;
      setImmediate(() => {
        planned = false;
        changed();
      });
    };
    const follower: Follower = {
      put(key, value) {
        const name = nameOfKey(key, prefix);
        const refused = put(name, value);
        if (refused !== undefined) {
          // What cannot be read lets nobody in.
          held.delete(name);
          log.error("a record of who may call is malformed", { key, reason: refused });
        }
        plan();
      },
      delete(key) {
        held.delete(nameOfKey(key, prefix));
        plan();
      },
      keys: () => Array.from(held.keys(), (name) => prefix + name),
      synced() {
        changed();
        synced.resolve();
      },
      onError: (error) => log.warn("who may call could not be read; trying again", { error }),
    };
    return { synced: synced.promise, running: runFollow(registry, prefix, follower, ended) };
  };

  const following = [
    follow(
      policyPrefix,
      policies,
      (name, value) => {
        const parsed = parsePolicyRecord(name, value);
        if (parsed.kind === "refused") return parsed.reason;
        if (policies.size >= maxPolicies && !policies.has(name)) return `there are ${maxPolicies} policies already`;
        policies.set(name, parsed.value);
        return undefined;
      },
      () => {
        rules = buildAccessRules(policies.values());
        table.review(mayKeep);
      },
    ),
    follow(
      apiKeyPrefix,
      keys,
      (id, value) => {
        const parsed = parseApiKeyRecord(value);
        if (parsed.kind === "refused") return parsed.reason;
        if (keys.size >= maxKeys && !keys.has(id)) return `there are ${maxKeys} keys already`;
        keys.set(id, parsed.value);
        return undefined;
      },
      () => table.setKeys(keys.values()),
    ),
  ];
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => undefined);
  ended.addEventListener("abort", () => aborted.reject(ended.reason), { once: true });
  await Promise.race([Promise.all(following.map(({ synced }) => synced)), aborted.promise]);

  return {
    refusal(told, model) {
      const principal = parsePrincipal(told ?? anonymous);
      if (principal === undefined) return { ...unproved, reason: "the credentials name no principal, or more than one" };
      if (model === undefined) return principal === anonymous ? unproved : undefined;
      return decide(principal, model);
    },
    letIn: (told, model) => table.allow(model, told ?? anonymous),
    mayKeep,
    onModel: (name) => table.review(mayKeep, name),
    async [Symbol.asyncDispose]() {
      stop.abort(new Error("the gateway stops"));
      await Promise.all(following.map(({ running }) => running));
    },
  };
}
