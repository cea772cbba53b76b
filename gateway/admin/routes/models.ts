// Owns the models over REST: register, unregister, list, look at, load, change settings.
import { z } from "zod";
import { maxWishCopies, maxWishMs } from "../../wishes.ts";
import type { Expectation, ListQuery, Models, Outcome, Written } from "../models.ts";
import { registrationBody, settingsBody } from "../registration.ts";
import { type Answer, addRoute, type Call, flagQuery, ok, type RouteModule, refuse, wholeQuery } from "../route.ts";
import { modelStates } from "../status.ts";

export const expectHeaders = {
  "if-match": 'The etag of what is changed, quoted, or *: 412 when it is another. `If-Match: "2f..."`',
} as const;

export const writtenSchema = z.object({
  name: z.string(),
  active: z.string(),
  target: z.string().optional(),
  etag: z.string(),
  created: z.boolean(),
  changed: z.boolean(),
  revision: z.string().optional(),
});

const settledSchema = z.object({
  name: z.string(),
  revision: z.string(),
  settled: z.boolean(),
  lagging: z.array(z.string()),
});

const labelForm = /^[^=]+(=.*)?$/s;

const label = z
  .string()
  .regex(labelForm, { error: "must be key=value, or a key alone" })
  .transform((text): readonly [string, string | undefined] => {
    const at = text.indexOf("=");
    return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
  });

const listQuery = z.strictObject({
  limit: wholeQuery(1, 1_000).default(100),
  after: z.string().max(300).optional(),
  label: z
    .preprocess((given) => (given === undefined ? undefined : [given].flat()), z.array(label).max(16).optional())
    .meta({ type: "array", maxItems: 16, items: { type: "string", pattern: labelForm.source } }),
  tenant: z.string().max(253).optional(),
  state: z.enum(modelStates, { error: `must be one of ${modelStates.join(", ")}` }).optional(),
  details: flagQuery.optional(),
});

const loadBody = z.strictObject({
  revision: z.string().optional().describe("The active one when absent."),
  copies: z.number().int().min(1).max(maxWishCopies).default(1),
  wait: z.boolean().default(true).describe("Answer when they are ready or have failed; otherwise at once."),
  timeoutMs: z.number().int().min(1).max(maxWishMs).default(600_000),
});

export function modelRoutes(models: Models): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/models",
      summary: "The registered models by name, in pages.",
      description: "A filtered page may be short, even empty, and still have a next one: a call looks at 20,000 models at most.",
      query: listQuery,
      answers: {
        200: "A page; `next` is the `after` of the next one, `revision` where a watch goes on. With `details`, objects instead of names.",
      },
      handle: async ({ query }) => {
        const listed = await models.list(toListQuery(query));
        if (listed.kind === "refused") return toAnswer(listed);
        const { next, revision } = listed.value;
        const shown = listed.value.models.map((model) => (query.details === true ? models.describe(model) : model.name));
        return ok({ models: shown, next, revision });
      },
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/models/:name",
      summary: "One model: what is registered, its state, its revisions and every copy.",
      answers: { 200: "The model; its etag also as a header." },
      handle: ({ params: { name = "" } }) => {
        const found = models.status(name);
        if (found.kind === "refused") return toAnswer(found);
        return { status: 200, body: found.value, headers: { etag: `"${found.value.etag}"` } };
      },
    });
    addRoute(app, {
      method: "PUT",
      url: "/api/v1/models/:name",
      summary: "Register a model.",
      description:
        "Without If-Match: the same again is well, another content is refused. With If-Match the model is replaced: " +
        "another artefact becomes its target, and active once it is loaded.",
      headers: { ...expectHeaders, "if-none-match": "`*`: only when it is not registered." },
      body: registrationBody,
      answers: {
        200: { says: "It is so.", body: writtenSchema },
        201: { says: "It is registered.", body: writtenSchema },
      },
      handle: async (call) =>
        withExpectation(call, async (expect) => toWritten(await models.register(nameOf(call), call.body, expect))),
    });
    addRoute(app, {
      method: "PATCH",
      url: "/api/v1/models/:name",
      summary: "Change settings of a model. null takes one away.",
      headers: expectHeaders,
      body: settingsBody,
      answers: { 200: { says: "It is so.", body: writtenSchema } },
      handle: async (call) =>
        withExpectation(call, async (expect) => toWritten(await models.changeSettings(nameOf(call), call.body, expect))),
    });
    addRoute(app, {
      method: "DELETE",
      url: "/api/v1/models/:name",
      summary: "Unregister a model. One that is not there is no mistake.",
      headers: expectHeaders,
      answers: { 200: "It is not registered any more." },
      handle: async (call) => withExpectation(call, async (expect) => toAnswer(await models.unregister(nameOf(call), expect))),
    });
    addRoute(app, {
      method: "POST",
      url: "/api/v1/models/:name/load",
      summary: "Load copies of a model, the first as if a request waited for it.",
      body: loadBody,
      answers: { 200: "They are ready; without `wait`, how many are." },
      handle: async ({ params: { name = "" }, body, reply }) => {
        const gone = new AbortController();
        reply.raw.once("close", () => gone.abort());
        return toAnswer(await models.load(name, { ...body, signal: gone.signal }));
      },
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/models/:name/settled",
      summary: "Whether the clients of every gateway are answered by a revision.",
      description:
        "That is so when each gateway's record has it as the active one, and each Envoy has acknowledged the routes that follow " +
        "from it. A gateway that does not answer within a second is not settled.",
      query: z.strictObject({ revision: z.string().max(300).optional().describe("The active one when absent.") }),
      answers: { 200: { says: "`lagging`: the gateways that are not there yet.", body: settledSchema } },
      handle: async ({ params: { name = "" }, query }) => toAnswer(await models.settled(name, query.revision)),
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/models/:name/history",
      summary: "What happened to a model lately, as this gateway saw it.",
      answers: { 200: "Events, the newest last." },
      handle: ({ params: { name = "" } }) => {
        const found = models.history(name);
        return found.kind === "ok" ? ok({ name, events: found.value }) : toAnswer(found);
      },
    });
  };
}

function toListQuery(query: z.infer<typeof listQuery>): ListQuery {
  const { after, limit, tenant, state, label: labels = [] } = query;
  return { after, limit, tenant, state, labels };
}

export function nameOf(call: { readonly params: Readonly<Record<string, string>> }): string {
  return call.params["name"] ?? "";
}

export function toAnswer(outcome: Outcome<unknown>): Answer {
  if (outcome.kind === "ok") return ok(outcome.value);
  const answer = refuse(outcome.code, outcome.reason, outcome.retryAfterMs);
  // Whatever the change would have been: https://www.rfc-editor.org/rfc/rfc9110#name-412-precondition-failed
  return outcome.isUnexpected === true ? { ...answer, status: 412 } : answer;
}

export function toWritten(outcome: Outcome<Written>): Answer {
  if (outcome.kind === "refused") return toAnswer(outcome);
  const { value } = outcome;
  return { status: value.created ? 201 : 200, body: value, headers: { etag: `"${value.etag}"` } };
}

export async function withExpectation(
  { header }: Pick<Call<unknown, unknown>, "header">,
  then: (expect: Expectation) => Promise<Answer>,
): Promise<Answer> {
  const given = header("if-match");
  const absent = header("if-none-match");
  if (absent !== undefined && absent.trim() !== "*") return refuse("invalid-request", "if-none-match must be *");
  const etag = given === undefined ? undefined : /^\s*(?:W\/)?(?:"([^"]*)"|(\*)|([\w-]+))\s*$/.exec(given);
  if (etag === null) return refuse("invalid-request", 'if-match must be one etag in quotes, as in "2f41...", or *');
  return await then({ etag: etag?.[1] ?? etag?.[2] ?? etag?.[3], absent: absent !== undefined });
}
