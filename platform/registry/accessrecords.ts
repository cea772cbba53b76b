// Owns the registry's records of who may call: policies under /policies/, API keys under /keys/. Of a key only its SHA-256
// is kept: whoever reads the registry can call nothing with it.
import { z } from "zod";
import { isPrincipal, type Policy, parsePolicy } from "#core/access.ts";
import { type Parsed, parseJson } from "./records.ts";

export const policyPrefix = "/policies/";
export const apiKeyPrefix = "/keys/";

/** Names of policies that are objects of Kubernetes begin so; nobody but the controller writes them. */
export const objectPolicyStart = "accesspolicy.";

export function objectPolicyName(namespace: string, name: string): string {
  return `${objectPolicyStart}${namespace}.${name}`;
}

export interface ApiKey {
  readonly id: string;
  readonly principal: string;
  /** Hex. */
  readonly hash: string;
  /** Seconds since 1970. */
  readonly createdAt: number;
  /** Seconds since 1970; 0 for no end. */
  readonly endsAt: number;
}

const seconds = z.int().min(0);
const apiKey: z.ZodType<ApiKey> = z
  .object({
    id: z.string().regex(/^[a-z0-9]{1,63}$/),
    principal: z.string().refine(isPrincipal),
    hash: z.string().regex(/^[0-9a-f]{64}$/),
    createdAt: seconds,
    endsAt: seconds,
  })
  .readonly();

export function parsePolicyRecord(name: string, value: string): Parsed<Policy> {
  const json = parseJson(value);
  if (json.kind === "refused") return json;
  const parsed = parsePolicy(name, json.value);
  return parsed.kind === "ok" ? { kind: "ok", value: parsed.policy } : parsed;
}

export function parseApiKeyRecord(value: string): Parsed<ApiKey> {
  const json = parseJson(value);
  if (json.kind === "refused") return json;
  const parsed = apiKey.safeParse(json.value);
  return parsed.success ? { kind: "ok", value: parsed.data } : { kind: "refused", reason: z.prettifyError(parsed.error) };
}
