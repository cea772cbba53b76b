// Owns the models: register, unregister, list, look at, load.
import { createHash } from "node:crypto";
import { z } from "zod";
import { parseModel } from "#core/model.ts";
import { addRoute, ok, type RouteModule, refuse, wholeQuery } from "../route.ts";
import type { GatewayState } from "../state.ts";

const spec = z.strictObject({
  format: z.string(),
  storageUri: z.string(),
  sizeHintBytes: z.number().optional(),
});

export function modelRoutes(state: GatewayState): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/models",
      summary: "Names of the registered models, in pages.",
      query: z.strictObject({ limit: wholeQuery(1, 1_000).default(100), after: z.string().optional() }),
      answers: { 200: "A page; `next` is the `after` of the next one." },
      handle: async ({ query }) => ok(await state.list(query.after, query.limit)),
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/models/:name",
      summary: "One model: what is registered, and its copies.",
      answers: { 200: "The model." },
      handle: ({ params: { name = "" } }) => {
        const found = state.describe(name);
        return found === undefined ? refuse("model-not-found", `no model '${name}' is registered`) : ok(found);
      },
    });
    addRoute(app, {
      method: "PUT",
      url: "/api/v1/models/:name",
      summary: "Register a model. The same again is well; another content is refused.",
      body: spec,
      answers: { 200: "It was registered so already.", 201: "It is registered." },
      handle: async ({ params: { name = "" }, body }) => {
        const model = readModel(name, body);
        if (model.kind === "refused") return refuse("invalid-request", model.reason);
        const done = await state.register(model.model);
        if (done.kind === "exists") return refuse("already-exists", `model '${name}' is registered with another content`);
        return ok({ name, active: model.model.active }, done.kind === "created" ? 201 : 200);
      },
    });
    addRoute(app, {
      method: "DELETE",
      url: "/api/v1/models/:name",
      summary: "Unregister a model. One that is not there is no mistake.",
      answers: { 200: "It is not registered any more." },
      handle: async ({ params: { name = "" } }) => {
        await state.unregister(name);
        return ok({ name });
      },
    });
    addRoute(app, {
      method: "POST",
      url: "/api/v1/models/:name/load",
      summary: "Load a model as if a request waited for it.",
      answers: { 200: "It is ready." },
      handle: async ({ params: { name = "" } }) => {
        const done = await state.load(name);
        return done.kind === "live" ? ok({ name, waitedMs: done.waitedMs }) : refuse(done.code, done.reason, done.retryAfterMs);
      },
    });
  };
}

function readModel(name: string, { format, storageUri, sizeHintBytes }: z.infer<typeof spec>): ReturnType<typeof parseModel> {
  // Named after its content: whoever registers another artefact under the same name never gets an old copy.
  const content = JSON.stringify([format, storageUri, sizeHintBytes]);
  const id = `r-${createHash("sha256").update(content).digest("hex").slice(0, 12)}`;
  return parseModel({ name, revisions: [{ id, slot: 0, format, storageUri, sizeHintBytes }], active: id, target: undefined });
}
