// Owns the registry's records of how much tenants may take, under /quotas/.
import { parseQuota, type Quota } from "#core/quota.ts";
import { type Parsed, parseJson } from "./records.ts";

export const quotaPrefix = "/quotas/";

export function parseQuotaRecord(name: string, value: string): Parsed<Quota> {
  const json = parseJson(value);
  if (json.kind === "refused") return json;
  const parsed = parseQuota(name, json.value);
  return parsed.kind === "ok" ? { kind: "ok", value: parsed.quota } : parsed;
}

export function buildQuotaRecord({ tenants, limits }: Quota): string {
  return JSON.stringify({ tenants, ...limits });
}
