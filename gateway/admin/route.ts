// Owns how one route of the management API is written down: its words for the OpenAPI description, the shapes of what it
// takes, and the handler, which sees parsed values only. A resource has a file of its own in routes/, which exports a
// RouteModule; to add one, write it and name it in routes/list.ts or where the gateway is put together.
// Invariants: what a route takes is refused with the name of each field that is wrong or unknown; every refusal is
// {"error", "code"} with a code of the catalogue.
import type { FastifyInstance, FastifyReply } from "fastify";
import { z } from "zod";
import { type ErrorCode, errorCatalogue, errorCodes } from "#core/errors.ts";
import { maxNameLength, parseWord } from "#core/fields.ts";
import { parseModelName, parseRevisionId } from "#core/model.ts";

/** Adds the routes of one resource. */
export type RouteModule = (app: FastifyInstance) => void;

export interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A handler that streams answers on the raw reply and says so. */
export const streamed = Symbol("streamed");

export interface Call<Query, Body> {
  /** Of the path: a `name` is a model's, a `revision` a revision's id, a `pod` a pod's id. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly body: Body;
  readonly header: (name: string) => string | undefined;
  readonly reply: FastifyReply;
}

export interface AnswerShape {
  readonly says: string;
  readonly body: z.ZodType;
  /** JSON when absent. */
  readonly types?: readonly string[];
}

export interface Route<Query, Body> {
  readonly method: "GET" | "PUT" | "POST" | "PATCH" | "DELETE";
  readonly url: string;
  /** One line for the list of all routes. */
  readonly summary: string;
  readonly description?: string;
  /** What query and body are; none is taken when absent. */
  readonly query?: z.ZodType<Query>;
  readonly body?: z.ZodType<Body>;
  /** Headers that change what the call does, and what for. */
  readonly headers?: Readonly<Record<string, string>>;
  /** What is answered when all is well, by status. */
  readonly answers: Readonly<Record<number, string | AnswerShape>>;
  /** Everybody who reaches the port may ask it, though tokens are needed elsewhere. */
  readonly isOpen?: boolean;
  /** Not part of the description, such as probes of the machinery. */
  readonly hidden?: boolean;
  readonly handle: (call: Call<Query, Body>) => Answer | typeof streamed | Promise<Answer | typeof streamed>;
}

const maxReasonLength = 1_000;
const noBody = "the body is missing: it is a JSON object, with content-type application/json";

export function refuse(code: ErrorCode, reason: string, retryAfterMs?: number): Answer {
  return {
    status: errorCatalogue[code].http,
    // It may repeat what was asked.
    body: { error: reason.slice(0, maxReasonLength).toWellFormed(), code },
    ...(retryAfterMs === undefined ? {} : { headers: { "retry-after": `${Math.ceil(retryAfterMs / 1_000)}` } }),
  };
}

export function ok(body: unknown, status = 200): Answer {
  return { status, body };
}

const nothing = z.strictObject({});
const errorSchema = z.object({ error: z.string().describe("For people."), code: z.enum(errorCodes) });

export function addRoute<Query = unknown, Body = unknown>(app: FastifyInstance, route: Route<Query, Body>): void {
  app.route({
    method: route.method,
    url: route.url,
    schema: describe(route),
    config: { isOpen: route.isOpen === true },
    handler: async (request, reply) => {
      const answer = await answerTo(route, request, reply);
      if (answer === streamed) return reply;
      if (answer.headers !== undefined) reply.headers(answer.headers);
      return reply.code(answer.status).send(answer.body);
    },
  });
}

interface Incoming {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

async function answerTo<Query, Body>(
  route: Route<Query, Body>,
  request: Incoming,
  reply: FastifyReply,
): Promise<Answer | typeof streamed> {
  const params = parseParams(request.params);
  if (params.kind === "refused") return refuse("invalid-name", params.reason);
  const query = (route.query ?? nothing).safeParse(request.query ?? {}, { reportInput: true });
  if (!query.success) return refuse("invalid-request", describeIssues(query.error));
  const body = route.body === undefined ? undefined : route.body.safeParse(request.body ?? {}, { reportInput: true });
  if (body?.success === false) return refuse("invalid-request", request.body === undefined ? noBody : describeIssues(body.error));
  return await route.handle({
    params: params.params,
    // Without a schema nothing is taken, and the handler's own type says so.
    query: query.data as Query,
    body: body?.data as Body,
    header: (name) => {
      const value = request.headers[name];
      return typeof value === "string" ? value : undefined;
    },
    reply,
  });
}

type Params =
  | { readonly kind: "ok"; readonly params: Readonly<Record<string, string>> }
  | { readonly kind: "refused"; readonly reason: string };

function parseParams(given: unknown): Params {
  const params: Record<string, string> = {};
  for (const [key, value] of Object.entries(typeof given === "object" && given !== null ? given : {})) {
    const parsed =
      key === "name"
        ? parseModelName(value)
        : key === "revision"
          ? parseRevisionId(value)
          : parseWord(`a ${key}`, value, maxNameLength);
    if (parsed.kind === "refused") return parsed;
    params[key] = String(value);
  }
  return { kind: "ok", params };
}

/** `limit must be ...; there is no field 'x'`: each with the name of its field. */
function describeIssues(error: z.ZodError): string {
  const reasons = error.issues.slice(0, 5).map((issue) => {
    const at = issue.path.map(String).join(".");
    const where = at === "" ? "" : `${at}: `;
    if (at === "" && issue.code === "invalid_type") return "the body must be a JSON object, with content-type application/json";
    if (issue.code === "invalid_type" && issue.input === undefined) return `${at} is missing`;
    if (issue.code !== "unrecognized_keys") return `${where}${issue.message}`;
    return `${where}unknown field${issue.keys.length > 1 ? "s" : ""} ${issue.keys.slice(0, 5).map(quote).join(", ")}`;
  });
  return reasons.join("; ");
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}

function describe<Query, Body>(route: Route<Query, Body>): Readonly<Record<string, unknown>> {
  const names = Array.from(route.url.matchAll(/:(\w+)/g), ([, name = ""]) => name);
  const answers = Object.entries(route.answers).map(([status, answer]) => [
    status,
    typeof answer === "string"
      ? { description: answer, type: "object", additionalProperties: true }
      : { description: answer.says, ...shapeOf(answer) },
  ]);
  const body = route.body === undefined ? undefined : jsonSchema(route.body, "input");
  const mayLackBody = route.body?.safeParse({}).success === true;
  return {
    hide: route.hidden === true,
    summary: route.summary,
    ...(route.description === undefined ? {} : { description: route.description }),
    tags: [route.url.split("/")[3] ?? "server"],
    ...(names.length === 0 ? {} : { params: objectOf(names.map((name) => [name, { type: "string" }])) }),
    ...(route.query === undefined ? {} : { querystring: jsonSchema(route.query, "input") }),
    ...(body === undefined ? {} : { body: mayLackBody ? { ...body, [mayBeAbsent]: true } : body }),
    ...(route.headers === undefined
      ? {}
      : {
          headers: objectOf(Object.entries(route.headers).map(([name, says]) => [name, { type: "string", description: says }])),
        }),
    response: {
      ...Object.fromEntries(answers),
      default: { description: "Refused: see the error catalogue.", ...jsonSchema(errorSchema, "output") },
    },
  };
}

function shapeOf({ body, types }: AnswerShape): Readonly<Record<string, unknown>> {
  const schema = jsonSchema(body, "output");
  return types === undefined ? schema : { content: Object.fromEntries(types.map((type) => [type, { schema }])) };
}

/** Of the schema of a body. */
const mayBeAbsent = "x-may-be-absent";

type Paths = Readonly<Record<string, unknown>>;

/** The plug-in that makes the description takes every body for required. */
export function relaxBodies(paths: Paths): void {
  for (const operation of Object.values(paths).flatMap(fieldsOf)) {
    const { requestBody } = fieldsByName(operation);
    for (const content of fieldsOf(fieldsByName(requestBody)["content"])) {
      const { schema } = fieldsByName(content);
      const isOptional = typeof schema === "object" && schema !== null && mayBeAbsent in schema;
      if (!isOptional || typeof requestBody !== "object" || requestBody === null) continue;
      Reflect.deleteProperty(schema, mayBeAbsent);
      Reflect.set(requestBody, "required", false);
    }
  }
}

function fieldsByName(value: unknown): Paths {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function fieldsOf(value: unknown): readonly unknown[] {
  return Object.values(fieldsByName(value));
}

function objectOf(entries: readonly (readonly [string, unknown])[]): unknown {
  return { type: "object", properties: Object.fromEntries(entries) };
}

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Readonly<Record<string, unknown>> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return rest;
}

/** A whole number in a query. */
export function wholeQuery(least: number, most: number): z.ZodType<number, string> {
  const says = `must be a whole number from ${least} to ${most}`;
  return z
    .string({ error: says })
    .refine((text) => /^\d{1,16}$/.test(text), { error: says })
    .transform(Number)
    .pipe(z.int({ error: says }).min(least, { error: says }).max(most, { error: says }))
    .meta({ type: "integer", minimum: least, maximum: most });
}

/** `true` or `false` in a query. */
export const flagQuery = z
  .string({ error: "must be true or false" })
  .refine((text) => text === "true" || text === "false", { error: "must be true or false" })
  .transform((text) => text === "true")
  .meta({ type: "boolean" });
