// Owns who is let in where callers must prove who they are: policies and API keys as the registry has them, the decision
// about a principal that has no scope for a model yet, and the scopes of those that were let in. Envoy turns a hit away by
// not finding it; so all that is decided here is decided once, and again when a policy, a key or a model changes.
import { type AccessRules, anonymous, buildAccessRules, maxPolicies, type Policy, parsePrincipal } from "#core/access.ts";
import type { Model } from "#core/model.ts";
import { unprovedReason } from "#envoy/auth.ts";
import type { Log } from "#platform/log.ts";
import {
  type ApiKey,
  apiKeyPrefix,
  parseApiKeyRecord,
  parsePolicyRecord,
  policyPrefix,
} from "#platform/registry/accessrecords.ts";
import type { Registry } from "#platform/registry/registry.ts";
import type { RouteTable } from "#xds/main.ts";
import type { Failure } from "./failure.ts";
import { follow } from "./following.ts";

export interface Access {
  /** Why the caller is turned away; undefined when it is not. `principal`: as Envoy tells it. */
  refusal(principal: string | undefined, model: Model | undefined): Failure | undefined;
  /** The model is warm: from now on the principal's requests for it are hits. */
  letIn(principal: string | undefined, model: string): void;
  /** Whether a scope from before may stay. */
  mayKeep(model: string, principal: string): boolean;
  /** The model changed: whom it is open to may have changed with it. */
  onModel(name: string): void;
  /** Calls back whenever anybody's access to anything may be another than before. */
  onRules(listener: () => void): void;
}

export interface AccessParts {
  readonly registry: Registry;
  readonly table: Pick<RouteTable, "allow" | "review" | "setCallers">;
  readonly findModel: (name: string) => Model | undefined;
  /** Tokens may prove who calls. */
  readonly tokens: boolean;
  readonly log: Log;
}

/** Where nobody has to prove anything. */
export const openToAll: Access = {
  refusal: () => undefined,
  letIn: () => undefined,
  mayKeep: () => false,
  onModel: () => undefined,
  onRules: () => undefined,
};

const maxKeys = 10_000;

const unproved = {
  kind: "failed",
  code: "unauthenticated",
  reason: unprovedReason,
} as const satisfies Failure;

/** Resolves when policies and keys are known; follows them until the signal is aborted. */
export async function openAccess(parts: AccessParts, signal: AbortSignal): Promise<Access & AsyncDisposable> {
  const { registry, table, findModel, log } = parts;
  const policies = new Map<string, Policy>();
  const keys = new Map<string, ApiKey>();
  const listeners: (() => void)[] = [];
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

  // Envoy is let in when both are known.
  const tell = (): void => table.setCallers({ keys: keys.values(), closed: rules.closed, tokens: parts.tokens });
  const following = follow(
    registry,
    [
      {
        prefix: policyPrefix,
        held: policies,
        put(name, value) {
          const parsed = parsePolicyRecord(name, value);
          if (parsed.kind === "refused") return parsed.reason;
          if (policies.size >= maxPolicies && !policies.has(name)) return `there are ${maxPolicies} policies already`;
          policies.set(name, parsed.value);
          return undefined;
        },
        changed() {
          rules = buildAccessRules(policies.values());
          table.review(mayKeep);
          tell();
          for (const listener of listeners) listener();
        },
      },
      {
        prefix: apiKeyPrefix,
        held: keys,
        put(id, value) {
          const parsed = parseApiKeyRecord(value);
          if (parsed.kind === "refused") return parsed.reason;
          if (keys.size >= maxKeys && !keys.has(id)) return `there are ${maxKeys} keys already`;
          keys.set(id, parsed.value);
          return undefined;
        },
        changed: tell,
      },
    ],
    log,
    signal,
  );
  await following.synced;

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
    onRules: (listener) => void listeners.push(listener),
    [Symbol.asyncDispose]: () => following[Symbol.asyncDispose](),
  };
}
