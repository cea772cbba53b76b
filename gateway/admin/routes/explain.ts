// Owns the question "why" over REST.
import type { Explain } from "../explain.ts";
import { addRoute, type RouteModule } from "../route.ts";
import { nameOf, toAnswer } from "./models.ts";

export function explainRoutes(explain: Explain): RouteModule {
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/models/:name/explain",
      summary: "Why the model is where it is, why it is not loaded, why requests for it waited.",
      answers: { 200: "Sentences for people in `lines`, and what they are made of." },
      handle: (call) => toAnswer(explain(nameOf(call))),
    });
  };
}
