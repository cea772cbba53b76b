// Owns the server of the management API: JSON in and out, errors as {"error", "code"}, its OpenAPI description at
// /api/v1/openapi.json. On a port of its own, never on an inference port; loopback unless told otherwise.
import { createServer } from "node:https";
import { isIP } from "node:net";
import fastifySwagger from "@fastify/swagger";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyServerFactory } from "fastify";
import { type ErrorCode, errorCatalogue, errorMessage, WarmpathError } from "#core/errors.ts";
import type { Log } from "#platform/log.ts";
import { contextOf, type PemFiles } from "#platform/tls/pems.ts";
import { serverMetadata } from "../about.ts";
import { type Callers, guard } from "./callers.ts";
import { type RouteModule, relaxBodies } from "./route.ts";
import { addSession } from "./session.ts";

export interface AdminParts {
  readonly routes: readonly RouteModule[];
  readonly log: Log;
  /** Who may call; everybody when absent: then only who can reach the port must be trusted. */
  readonly callers?: Callers | undefined;
  /** It listens for this machine alone. */
  readonly isLocal?: boolean | undefined;
  /** Its certificate, which may be renewed; plain text when absent. */
  readonly tls?: PemFiles | undefined;
}

const bodyLimit = 256 * 1024;
/** As fastify has it for plain text. */
const keepAliveMs = 72_000;

export function createAdmin({ routes, log, callers, isLocal = false, tls }: AdminParts): FastifyInstance {
  const app = Fastify({
    logger: false,
    bodyLimit,
    routerOptions: { maxParamLength: 300 },
    // What is refused before any route is found.
    frameworkErrors: (error, _request, reply: FastifyReply) => {
      const status = statusOf(error);
      void reply.code(status).send({ error: errorMessage(error), code: codeOf(status) });
    },
    // A watch is a call that lasts: close() must not wait for it.
    forceCloseConnections: true,
    ...secured(tls),
  });
  // The routes' own parsers decide; their schemas are there to be read.
  app.setValidatorCompiler(() => () => true);
  app.setSerializerCompiler(() => JSON.stringify);
  app.setErrorHandler(async (error, _request, reply) => {
    if (error instanceof WarmpathError && error.code !== "internal") {
      const { http, log: level } = errorCatalogue[error.code];
      log[level]("a management call could not be done", { error });
      return reply.code(http).send({ error: errorMessage(error), code: error.code });
    }
    const status = statusOf(error);
    if (status >= 500) log.error("a management call failed", { error });
    return reply.code(status).send({ error: sayBodyError(error) ?? errorMessage(error), code: codeOf(status) });
  });
  const methodsAt = recordMethods(app);
  app.setNotFoundHandler(async (request, reply) => {
    const methods = methodsAt(request.url);
    if (methods.length === 0)
      return reply.code(404).send({ error: `nothing is at ${request.url.slice(0, 200)}`, code: "unsupported-method" });
    return reply
      .code(405)
      .header("allow", methods.join(", "))
      .send({ error: `${request.method} is not allowed here; use ${methods.join(" or ")}`, code: "method-not-allowed" });
  });
  // Browsers of other sites must not drive this API, nor those that a name of another site leads here.
  app.addHook("onRequest", async (request, reply) => {
    const { origin, host } = request.headers;
    // A page that reads has its own site's name as host, and sends no origin.
    if (isLocal && callers === undefined && host !== undefined && !isNameHere(host))
      return reply
        .code(403)
        .send({ error: `this server is no '${host.slice(0, 100)}': call it localhost`, code: "invalid-request" });
    if (
      request.method === "GET" ||
      origin === undefined ||
      isOwnOrigin(origin, host, tls === undefined ? "http" : "https", callers !== undefined)
    )
      return undefined;
    return reply.code(403).send({ error: "calls from another site are refused", code: "invalid-request" });
  });
  if (callers !== undefined) guard(app, callers, log);
  void app.register(fastifySwagger, {
    transformObject(document) {
      if (!("openapiObject" in document)) return document.swaggerObject;
      relaxBodies(document.openapiObject.paths ?? {});
      return document.openapiObject;
    },
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Warmpath management API",
        version: serverMetadata.version,
        description: "Models, revisions, pods: what should be served, and what is. Every refusal is {error, code}.",
      },
    },
  });
  // In a scope of its own: the description sees only routes that are added after its plug-in.
  void app.register(async (scope) => {
    for (const add of routes) add(scope);
    addSession(scope, callers);
    scope.get("/api/v1/openapi.json", { schema: { hide: true } }, async () => app.swagger());
  });
  return app;
}

/**
 * The page that calls is this server's own. Where nobody has to sign in it must not even have a name that somebody else's
 * name server could give to this address; a cookie is bound to its name.
 */
function isOwnOrigin(origin: string, host: string | undefined, scheme: "http" | "https", signedIn: boolean): boolean {
  if (signedIn) return origin === `http://${host}` || origin === `https://${host}`;
  if (origin !== `${scheme}://${host}`) return false;
  return isNameHere(new URL(origin).host);
}

/** With or without a port: what no name server of somebody else can lead here. */
function isNameHere(host: string): boolean {
  const name = host.replace(/:\d*$/, "").replace(/^\[|\]$/g, "");
  return name === "localhost" || name.endsWith(".localhost") || isIP(name) !== 0;
}

/** Connections that come after a renewal see the new certificate; those before it live on. */
function secured(tls: PemFiles | undefined): { readonly serverFactory?: FastifyServerFactory } {
  if (tls === undefined) return {};
  return {
    serverFactory(handler) {
      const server = createServer({ ...contextOf(tls.now), keepAliveTimeout: keepAliveMs }, handler);
      tls.onRenewed((pems) => server.setSecureContext(contextOf(pems)));
      return server;
    },
  };
}

/** Which methods the routes take that are added from now on, by the path that is asked for. */
function recordMethods(app: FastifyInstance): (url: string) => readonly string[] {
  const routes: { readonly parts: readonly string[]; readonly methods: readonly string[] }[] = [];
  app.addHook("onRoute", ({ url, method }) => {
    routes.push({ parts: url.split("/"), methods: [method].flat() });
  });
  return (url) => {
    const asked = (url.split("?", 1)[0] ?? "").split("/");
    const fits = (parts: readonly string[]): boolean =>
      parts.length === asked.length && parts.every((part, at) => part.startsWith(":") || part === asked[at]);
    return [...new Set(routes.filter(({ parts }) => fits(parts)).flatMap(({ methods }) => methods))].sort();
  };
}

const bodyErrors: Readonly<Record<string, string>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "the body must be JSON, with content-type application/json",
  FST_ERR_CTP_INVALID_JSON_BODY: "the body is not JSON",
  FST_ERR_CTP_EMPTY_JSON_BODY: "the body is empty where content-type says that it is JSON",
  FST_ERR_CTP_BODY_TOO_LARGE: `the body is larger than ${bodyLimit} bytes`,
};

/** Of what the server finds wrong with a body before any route sees it. */
function sayBodyError(error: unknown): string | undefined {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "string" ? bodyErrors[code] : undefined;
}

function statusOf(error: unknown): number {
  const status = typeof error === "object" && error !== null && "statusCode" in error ? error.statusCode : undefined;
  return typeof status === "number" && status >= 400 && status < 600 ? status : 500;
}

function codeOf(status: number): ErrorCode {
  if (status === 413) return "body-too-large";
  return status >= 500 ? "internal" : "invalid-request";
}
