// Owns the management API: what is registered, where it is, register and unregister, counters. JSON in and out; errors as
// {"error", "code"}. On a port of its own, never on an inference port; loopback unless told otherwise.
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import Fastify, { type FastifyInstance } from "fastify";
import { type ErrorCode, errorCatalogue, errorMessage } from "#core/errors.ts";
import { type Model, parseModel, parseModelName } from "#core/model.ts";
import type { Log } from "#platform/log.ts";
import type { GatewayState } from "./state.ts";

export interface AdminParts {
  readonly state: GatewayState;
  readonly log: Log;
}

type Answer = { readonly status: number; readonly body: unknown };

function refuse(code: ErrorCode, reason: string): Answer {
  return { status: errorCatalogue[code].http, body: { error: reason, code } };
}

export function createAdmin({ state, log }: AdminParts): FastifyInstance {
  const app = Fastify({
    logger: false,
    bodyLimit: 256 * 1024,
    routerOptions: { maxParamLength: 300 },
  });

  function route(method: "GET" | "PUT" | "POST" | "DELETE", url: string, handler: (request: Call) => Promise<Answer>): void {
    app.route({
      method,
      url,
      handler: async (request, reply) => {
        const params: unknown = request.params;
        const query: unknown = request.query;
        const { status, body } = await handler({ params: asRecord(params), query: asRecord(query), body: request.body });
        return reply.code(status).send(body);
      },
    });
  }

  app.setErrorHandler(async (error, _request, reply) => {
    const status = statusOf(error);
    if (status >= 500) log.error("a management call failed", { error });
    return reply.code(status).send({ error: errorMessage(error), code: status >= 500 ? "internal" : "invalid-request" });
  });
  app.setNotFoundHandler(async (request, reply) =>
    reply.code(404).send({ error: `nothing is at ${request.method} ${request.url.slice(0, 200)}`, code: "unsupported-method" }),
  );
  // Browsers of other sites must not drive this API, nor those that a name of another site leads here.
  app.addHook("onRequest", async (request, reply) => {
    const { origin, host } = request.headers;
    if (request.method === "GET" || origin === undefined || isOwnOrigin(origin, host)) return undefined;
    return reply.code(403).send({ error: "calls from another site are refused", code: "invalid-request" });
  });

  route("GET", "/healthz", async () => ({ status: 200, body: { ok: true } }));
  route("GET", "/readyz", async () =>
    state.isReady() ? { status: 200, body: { ready: true } } : refuse("unavailable", "the gateway is starting"),
  );
  route("GET", "/api/v1/stats", async () => ({ status: 200, body: await state.stats() }));
  route("GET", "/api/v1/pods", async () => ({ status: 200, body: { pods: state.pods() } }));
  route("GET", "/api/v1/models", async ({ query }) => {
    const limit = Number(query["limit"] ?? 100);
    if (!Number.isInteger(limit) || limit < 1 || limit > 1_000) return refuse("invalid-request", "limit must be 1 to 1000");
    const after = query["after"];
    return { status: 200, body: await state.list(typeof after === "string" ? after : undefined, limit) };
  });
  route("GET", "/api/v1/models/:name", async ({ params }) =>
    withName(params, async (name) => {
      const found = state.describe(name);
      return found === undefined ? refuse("model-not-found", `no model '${name}' is registered`) : { status: 200, body: found };
    }),
  );
  route("PUT", "/api/v1/models/:name", async ({ params, body }) =>
    withName(params, async (name) => {
      const model = readModel(name, body);
      if (model.kind === "refused") return refuse("invalid-request", model.reason);
      const done = await state.register(model.model);
      if (done.kind === "exists") return refuse("already-exists", `model '${name}' is registered with another content`);
      return { status: done.kind === "created" ? 201 : 200, body: { name, active: model.model.active } };
    }),
  );
  route("DELETE", "/api/v1/models/:name", async ({ params }) =>
    withName(params, async (name) => {
      await state.unregister(name);
      return { status: 200, body: { name } };
    }),
  );
  route("POST", "/api/v1/models/:name/load", async ({ params }) =>
    withName(params, async (name) => {
      const done = await state.load(name);
      return done.kind === "live" ? { status: 200, body: { name, waitedMs: done.waitedMs } } : refuse(done.code, done.reason);
    }),
  );
  return app;
}

/** The address in the browser is this server's own, and no name that somebody else's name server could give it. */
function isOwnOrigin(origin: string, host: string | undefined): boolean {
  if (origin !== `http://${host}`) return false;
  const { hostname } = new URL(origin);
  return hostname === "localhost" || isIP(hostname.replace(/^\[|\]$/g, "")) !== 0;
}

interface Call {
  readonly params: Readonly<Record<string, unknown>>;
  readonly query: Readonly<Record<string, unknown>>;
  readonly body: unknown;
}

async function withName(params: Readonly<Record<string, unknown>>, then: (name: string) => Promise<Answer>): Promise<Answer> {
  const parsed = parseModelName(params["name"]);
  return parsed.kind === "ok" ? then(parsed.name) : refuse("invalid-name", parsed.reason);
}

/** A registration: `{"format", "storageUri", "sizeHintBytes"?}`. */
function readModel(
  name: string,
  body: unknown,
): { readonly kind: "ok"; readonly model: Model } | { readonly kind: "refused"; readonly reason: string } {
  const { format, storageUri, sizeHintBytes } = asRecord(body);
  // Named after its content: whoever registers another artefact under the same name never gets an old copy.
  const content = JSON.stringify([format, storageUri, sizeHintBytes]);
  const id = `r-${createHash("sha256").update(content).digest("hex").slice(0, 12)}`;
  return parseModel({ name, revisions: [{ id, slot: 0, format, storageUri, sizeHintBytes }], active: id, target: undefined });
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function statusOf(error: unknown): number {
  const status = typeof error === "object" && error !== null && "statusCode" in error ? error.statusCode : undefined;
  return typeof status === "number" && status >= 400 && status < 600 ? status : 500;
}
