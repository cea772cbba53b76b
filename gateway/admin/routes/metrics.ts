// Owns the scrape of this gateway, in the format that the scraper likes best, and where else there is to scrape.
import { z } from "zod";
import { chooseFormat, contentTypes } from "#platform/exposition.ts";
import type { Scrapable } from "#platform/metrics.ts";
import type { Fleet } from "../../fleet.ts";
import { addRoute, ok, type RouteModule } from "../route.ts";

export function metricsRoutes(metrics: Scrapable, fleet: Fleet): RouteModule {
  return (app) => {
    app.get("/metrics", { schema: { hide: true } }, async (request, reply) => {
      const format = chooseFormat(request.headers.accept);
      const text = await metrics.render(format);
      return await reply.header("content-type", contentTypes[format]).header("cache-control", "no-store").send(text);
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/scrape-targets",
      summary: "The adapters' metrics, as Prometheus' HTTP service discovery reads them.",
      answers: {
        200: {
          says: "One entry for each adapter that tells metrics.",
          body: z.array(z.object({ targets: z.array(z.string()), labels: z.record(z.string(), z.string()) })),
        },
      },
      handle: () =>
        ok(
          [...fleet.pods()].flatMap(({ info: { podId, runtime, metricsAddress } }) =>
            metricsAddress === undefined ? [] : [{ targets: [metricsAddress], labels: { pod: podId, runtime } }],
          ),
        ),
    });
  };
}
