// Owns who may call, as people change it: policies, and API keys. A key is shown once, when it is made; only its hash is kept.
import { createHash, randomBytes } from "node:crypto";
import { z } from "zod";
import { isPrincipal, parsePolicy } from "#core/access.ts";
import {
  type ApiKey,
  apiKeyPrefix,
  objectPolicyStart,
  parseApiKeyRecord,
  policyPrefix,
} from "#platform/registry/accessrecords.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { type Answer, addRoute, ok, type RouteModule, refuse } from "../route.ts";

const maxListed = 10_000;
const principal = z.string().refine(isPrincipal, { error: "must be 1 to 253 of A-Z a-z 0-9 . _ : / @ -, no sign first" });

const policyBody = z.strictObject({
  callers: z.array(z.string()).describe("Principals, or `authenticated`, or `everybody`."),
  models: z
    .strictObject({
      names: z.array(z.string()).optional().describe("Names, or prefixes that end with *."),
      tenant: z.string().optional(),
      labels: z.record(z.string(), z.string()).optional(),
    })
    .default({})
    .describe("Selected is what fits everything given; without anything, every model."),
});

export function accessRoutes(registry: Pick<Registry, "get" | "put" | "list" | "delete">, nowMs: () => number): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/policies",
      summary: "Who may call which models, besides the tenants that they belong to.",
      answers: { 200: "All policies." },
      handle: async () => {
        const { entries } = await registry.list(policyPrefix, { limit: maxListed });
        return ok({ policies: entries.map(({ key, value }) => ({ name: key.slice(policyPrefix.length), ...asRecord(value) })) });
      },
    });
    addRoute(app, {
      method: "PUT",
      url: "/api/v1/policies/:policy",
      summary: "Let callers call models. Replaces the policy of that name.",
      body: policyBody,
      answers: { 200: "It counts, as soon as each gateway has heard of it." },
      handle: async ({ params: { policy = "" }, body }) => {
        if (policy.startsWith(objectPolicyStart))
          return refuse("invalid-request", `names that begin with ${objectPolicyStart} are of objects: apply an AccessPolicy`);
        const parsed = parsePolicy(policy, body);
        if (parsed.kind === "refused") return refuse("invalid-request", parsed.reason);
        const { callers, models } = parsed.policy;
        return await written(registry.put(policyPrefix + policy, JSON.stringify({ callers, models })), { name: policy });
      },
    });
    addRoute(app, {
      method: "DELETE",
      url: "/api/v1/policies/:policy",
      summary: "Take a policy back. One that is not there is no mistake.",
      answers: { 200: "It no longer counts, as soon as each gateway has heard of it." },
      handle: async ({ params: { policy = "" } }) => {
        await registry.delete(policyPrefix + policy);
        return ok({ name: policy });
      },
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/keys",
      summary: "API keys: whose they are, never the keys themselves.",
      answers: { 200: "All keys." },
      handle: async () => {
        const { entries } = await registry.list(apiKeyPrefix, { limit: maxListed });
        const keys = entries.flatMap(({ value }) => {
          const parsed = parseApiKeyRecord(value);
          return parsed.kind === "ok" ? [shown(parsed.value)] : [];
        });
        return ok({ keys });
      },
    });
    addRoute(app, {
      method: "POST",
      url: "/api/v1/keys",
      summary: "Make an API key. The answer is the only place where it is ever shown.",
      body: z.strictObject({
        principal,
        lifeSeconds: z.int().min(1).max(3_153_600_000).optional().describe("It does not end when absent."),
      }),
      answers: { 201: "The key." },
      handle: async ({ body }) => {
        const key = `wk_${randomBytes(32).toString("base64url")}`;
        const createdAt = Math.floor(nowMs() / 1_000);
        const record: ApiKey = {
          id: randomBytes(8).toString("hex"),
          principal: body.principal,
          hash: createHash("sha256").update(key).digest("hex"),
          createdAt,
          endsAt: body.lifeSeconds === undefined ? 0 : createdAt + body.lifeSeconds,
        };
        return await written(registry.put(apiKeyPrefix + record.id, JSON.stringify(record)), { ...shown(record), key }, 201);
      },
    });
    addRoute(app, {
      method: "DELETE",
      url: "/api/v1/keys/:key",
      summary: "Revoke an API key, by its id.",
      answers: { 200: "It is worth nothing, as soon as each gateway has heard of it." },
      handle: async ({ params: { key = "" } }) => {
        await registry.delete(apiKeyPrefix + key);
        return ok({ id: key });
      },
    });
  };
}

async function written(put: ReturnType<Registry["put"]>, body: unknown, status = 200): Promise<Answer> {
  const done = await put;
  return done.kind === "ok" ? ok(body, status) : refuse("invalid-request", `the registry refuses it: ${done.kind}`);
}

function shown({ id, principal, createdAt, endsAt }: ApiKey): Readonly<Record<string, unknown>> {
  return { id, principal, createdAt, ...(endsAt === 0 ? {} : { endsAt }) };
}

function asRecord(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
