// Owns who may call which model: principals, policies, and the decision with its reason. Pure.
// A principal is what a caller has proved to be: a tenant's name from a token, an API key or a client's certificate. It may
// call the models that belong to it (Model.tenant) and those that a policy lets it call; anonymous callers only what a
// policy opens to everybody.
// Invariant: nothing is allowed that no rule allows.
import {
  type Found,
  isRecord,
  own,
  parseAllSettings,
  parseWord,
  parseWords,
  type Refused,
  refused,
  type Settings,
} from "./fields.ts";
import type { Model } from "./model.ts";

/** Who has proved nothing. No tenant has this name: names hold letters or digits. */
export const anonymous = "-";

/** A policy's word for every principal that has proved to be one, and for everybody. */
export const authenticatedWord = "authenticated";
export const everybodyWord = "everybody";

export interface Policy {
  readonly name: string;
  /** Principals, or one of the two words. */
  readonly callers: readonly string[];
  readonly models: ModelSelector;
}

/** A model is selected when everything that is given fits; without anything, every model. */
export interface ModelSelector {
  /** Names, or prefixes that end with `*`. */
  readonly names?: readonly string[];
  readonly tenant?: string;
  /** All of them. */
  readonly labels?: Settings;
}

export type Access =
  | { readonly kind: "allowed"; readonly by: string }
  | { readonly kind: "denied"; readonly code: "unauthenticated" | "permission-denied"; readonly reason: string };

export const maxPolicies = 1_000;
const maxCallers = 1_000;
const maxNames = 1_000;
/** What stands before a principal's name, in headers and scopes, when a client's certificate proved it. */
export const fromCertificate = "cert:";

const principalForm = /^(?!cert:)[A-Za-z0-9][A-Za-z0-9._:/@-]{0,252}$/;

/** `team-a`, `spiffe://domain/ns/team`: what may stand in a header and be a principal. */
export function isPrincipal(text: string): boolean {
  return principalForm.test(text);
}

/** The principal that Envoy tells, or `anonymous`; undefined when it can be none, such as several names at once. */
export function parsePrincipal(told: string): string | undefined {
  const name = told.startsWith(fromCertificate) ? told.slice(fromCertificate.length) : told;
  return name === anonymous || isPrincipal(name) ? name : undefined;
}

export function parsePolicy(name: unknown, value: unknown): { readonly kind: "ok"; readonly policy: Policy } | Refused {
  const named = parseWord("a policy's name", name, 253);
  if (named.kind === "refused") return named;
  if (!isRecord(value)) return refused("a policy must be an object");
  const callers = parseTexts("callers", own(value, "callers"), maxCallers, isPrincipal);
  if (callers.kind === "refused") return callers;
  const given = own(value, "models") ?? {};
  if (!isRecord(given)) return refused("models must be an object");
  const names = own(given, "names");
  const parsedNames = names === undefined ? undefined : parseTexts("models.names", names, maxNames, isNamePattern);
  if (parsedNames?.kind === "refused") return parsedNames;
  const tenant = parseWords(given, ["tenant"]);
  if (tenant.kind === "refused") return tenant;
  const labels = parseAllSettings(given, ["labels"]);
  if (labels.kind === "refused") return labels;
  const models = { ...(parsedNames === undefined ? {} : { names: parsedNames.found }), ...tenant.found, ...labels.found };
  return {
    kind: "ok",
    policy: Object.freeze({ name: named.text, callers: callers.found, models: Object.freeze(models) }),
  };
}

function isNamePattern(text: string): boolean {
  return parseWord("a name", text.endsWith("*") ? `${text.slice(0, -1)}x` : text, 253).kind === "ok";
}

function parseTexts(what: string, value: unknown, most: number, fits: (text: string) => boolean): Found<readonly string[]> {
  if (!Array.isArray(value) || value.length === 0 || value.length > most)
    return refused(`${what} must be a list of 1 to ${most}`);
  const texts: string[] = [];
  for (const each of value) {
    if (typeof each !== "string" || !fits(each)) return refused(`${what}: entry ${texts.length} is none that can be meant`);
    texts.push(each);
  }
  return { kind: "ok", found: Object.freeze(texts) };
}

/** Policies by the callers they are for, so that a decision looks only at what may concern it. */
export interface AccessRules {
  /** Nothing is open to who has proved nothing. */
  readonly closed: boolean;
  decide(principal: string, model: Pick<Model, "name" | "tenant" | "labels">): Access;
}

export function buildAccessRules(policies: Iterable<Policy>): AccessRules {
  const byCaller = new Map<string, Policy[]>();
  for (const policy of policies) {
    for (const caller of new Set(policy.callers)) {
      const list = byCaller.get(caller) ?? [];
      byCaller.set(caller, list);
      list.push(policy);
    }
  }
  return {
    closed: !byCaller.has(everybodyWord),
    decide(principal, model) {
      if (principal !== anonymous && model.tenant === principal) return { kind: "allowed", by: "its tenant" };
      const words = principal === anonymous ? [everybodyWord] : [principal, authenticatedWord, everybodyWord];
      for (const word of words) {
        const found = byCaller.get(word)?.find(({ models }) => selects(models, model));
        if (found !== undefined) return { kind: "allowed", by: `policy ${found.name}` };
      }
      if (principal === anonymous) {
        return {
          kind: "denied",
          code: "unauthenticated",
          reason: `model '${model.name}' is not open to callers without credentials`,
        };
      }
      return { kind: "denied", code: "permission-denied", reason: `nothing lets '${principal}' call model '${model.name}'` };
    },
  };
}

function selects(selector: ModelSelector, model: Pick<Model, "name" | "tenant" | "labels">): boolean {
  const { names, tenant, labels } = selector;
  if (tenant !== undefined && model.tenant !== tenant) return false;
  const given = model.labels ?? {};
  if (Object.entries(labels ?? {}).some(([key, value]) => !Object.hasOwn(given, key) || given[key] !== value)) return false;
  return (
    names === undefined ||
    names.some((name) => (name.endsWith("*") ? model.name.startsWith(name.slice(0, -1)) : model.name === name))
  );
}
