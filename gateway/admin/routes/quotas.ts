// Owns how much tenants may take, as people change it.
import { z } from "zod";
import { parseQuota } from "#core/quota.ts";
import { buildQuotaRecord, parseQuotaRecord, quotaPrefix } from "#platform/registry/quotarecords.ts";
import type { Registry } from "#platform/registry/registry.ts";
import type { Quotas } from "../../quotas.ts";
import { addRoute, ok, type RouteModule, refuse } from "../route.ts";

const maxListed = 10_000;

const whole = (says: string) => z.number().optional().describe(says);

const quotaBody = z.strictObject({
  tenants: z
    .array(z.string())
    .describe("Each has the limits for itself. `authenticated`: everybody whom no quota names; `anonymous`: who proves nothing."),
  requestsPerSecond: whole("Of each port of each gateway. Only where callers prove who they are."),
  burst: whole("How many requests may come at once; as many as in a second when absent."),
  parkedRequests: whole("Requests that wait for models, of each gateway."),
  loadsUnderWay: whole("Loads that its requests started and that are not over, of each gateway."),
  loadsPerMinute: whole("Loads that its requests start in a minute, of each gateway."),
  warmBytes: whole("What copies of its models may take, all pods together."),
});

export function quotaRoutes(registry: Pick<Registry, "put" | "list" | "delete">, quotas: Pick<Quotas, "use">): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/quotas",
      summary: "How much tenants may take, and what each has in hand at this gateway.",
      answers: { 200: "All quotas, and the tenants that have something in hand." },
      handle: async () => {
        const { entries } = await registry.list(quotaPrefix, { limit: maxListed });
        const known = entries.flatMap(({ key, value }) => {
          const parsed = parseQuotaRecord(key.slice(quotaPrefix.length), value);
          return parsed.kind === "ok" ? [parsed.value] : [];
        });
        return ok({
          quotas: known.map(({ name, tenants, limits }) => ({ name, tenants, ...limits })),
          tenants: quotas.use(),
        });
      },
    });
    addRoute(app, {
      method: "PUT",
      url: "/api/v1/quotas/:quota",
      summary: "Hold tenants to limits. Replaces the quota of that name.",
      body: quotaBody,
      answers: { 200: "It counts, as soon as each gateway has heard of it." },
      handle: async ({ params: { quota = "" }, body }) => {
        const parsed = parseQuota(quota, body);
        if (parsed.kind === "refused") return refuse("invalid-request", parsed.reason);
        const done = await registry.put(quotaPrefix + quota, buildQuotaRecord(parsed.quota));
        return done.kind === "ok" ? ok({ name: quota }) : refuse("invalid-request", `the registry refuses it: ${done.kind}`);
      },
    });
    addRoute(app, {
      method: "DELETE",
      url: "/api/v1/quotas/:quota",
      summary: "Take a quota back. One that is not there is no mistake.",
      answers: { 200: "It no longer counts, as soon as each gateway has heard of it." },
      handle: async ({ params: { quota = "" } }) => {
        await registry.delete(quotaPrefix + quota);
        return ok({ name: quota });
      },
    });
  };
}
