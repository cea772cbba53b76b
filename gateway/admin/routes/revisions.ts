// Owns the revisions of a model over REST: add, promote, roll back, remove, split, mirror.
import { z } from "zod";
import { activations, type Models } from "../models.ts";
import { mirrorBody, revisionBody, splitBody } from "../registration.ts";
import { addRoute, flagQuery, ok, type RouteModule } from "../route.ts";
import { expectHeaders, nameOf, toAnswer, toWritten, withExpectation, writtenSchema } from "./models.ts";

const addQuery = z.strictObject({
  activate: z
    .enum(activations, { error: `must be one of ${activations.join(", ")}` })
    .default("when-loaded")
    .describe("never: it is only there, for a split or a later promotion."),
  loadNow: flagQuery.default(false).describe("Load it even when the active revision is not loaded."),
});

const answers = { 200: { says: "It is so.", body: writtenSchema } };

export function revisionRoutes(models: Models): RouteModule {
  const base = "/api/v1/models/:name";
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: `${base}/revisions`,
      summary: "The revisions of a model, with their states.",
      answers: { 200: "All revisions." },
      handle: (call) => {
        const found = models.status(nameOf(call));
        if (found.kind === "refused") return toAnswer(found);
        const { name, etag, active, target, transition, failure, retired, split, mirror, revisions, revisionStates } =
          found.value;
        const states = new Map(revisionStates.map((state) => [state.id, state]));
        const listed = revisions.map((revision) => ({ ...revision, ...states.get(revision.id) }));
        return ok({ name, etag, active, target, transition, failure, retired, split, mirror, revisions: listed });
      },
    });
    addRoute(app, {
      method: "POST",
      url: `${base}/revisions`,
      summary: "Add a revision; by default it becomes active once it is loaded to as many copies as the active one has.",
      description: "The same content again is well: it leads back to the revision that has it, at once while that is warm.",
      headers: expectHeaders,
      query: addQuery,
      body: revisionBody,
      answers,
      handle: async (call) =>
        withExpectation(call, async (expect) => toWritten(await models.addRevision(nameOf(call), call.body, call.query, expect))),
    });
    addRoute(app, {
      method: "DELETE",
      url: `${base}/revisions/:revision`,
      summary: "Remove a revision that is not in use.",
      headers: expectHeaders,
      answers,
      handle: async (call) =>
        withExpectation(call, async (expect) =>
          toWritten(await models.removeRevision(nameOf(call), call.params["revision"] ?? "", expect)),
        ),
    });
    addRoute(app, {
      method: "POST",
      url: `${base}/promote`,
      summary: "Move the pointer to a revision, once it is loaded.",
      headers: expectHeaders,
      body: z.strictObject({
        revision: z.string().optional().describe("The target when absent."),
        force: z.boolean().default(false).describe("At once, whatever is loaded."),
      }),
      answers,
      handle: async (call) =>
        withExpectation(call, async (expect) =>
          toWritten(await models.promote(nameOf(call), call.body.revision, call.body.force, expect)),
        ),
    });
    addRoute(app, {
      method: "POST",
      url: `${base}/rollback`,
      summary: "Give the target up, or go back to the revision that was active before: at once while it is warm.",
      headers: expectHeaders,
      answers,
      handle: async (call) => withExpectation(call, async (expect) => toWritten(await models.rollBack(nameOf(call), expect))),
    });
    addRoute(app, {
      method: "PUT",
      url: `${base}/split`,
      summary: "Give shares of the requests to other revisions than the active one. An empty list gives it everything.",
      headers: expectHeaders,
      body: splitBody,
      answers,
      handle: async (call) =>
        withExpectation(call, async (expect) => toWritten(await models.setSplit(nameOf(call), call.body.split, expect))),
    });
    addRoute(app, {
      method: "PUT",
      url: `${base}/mirror`,
      summary: "Send copies of requests to a revision and throw its answers away. null ends it.",
      headers: expectHeaders,
      body: mirrorBody,
      answers,
      handle: async (call) =>
        withExpectation(call, async (expect) =>
          toWritten(await models.setMirror(nameOf(call), call.body.mirror ?? undefined, expect)),
        ),
    });
  };
}
