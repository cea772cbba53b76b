// Owns the live page: its files, the stream of what it shows, the slow requests. Nothing of it comes from elsewhere, and
// the browser is told to let nothing else in.
import { readFileSync } from "node:fs";
import type { FastifyReply } from "fastify";
import type { Feed } from "../../feed.ts";
import type { SlowMisses } from "../../slow.ts";
import { addRoute, ok, type RouteModule } from "../route.ts";

export interface PageParts {
  readonly feed: Feed;
  readonly slow: SlowMisses;
}

const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const files: readonly (readonly [url: string, file: string, type: string])[] = [
  ["/", "index.html", "text/html; charset=utf-8"],
  ["/page/style.css", "style.css", "text/css; charset=utf-8"],
  ["/page/icon.svg", "icon.svg", "image/svg+xml"],
  ...["app", "columns", "packing", "chart", "dom", "panels", "signin"].map(
    (name) => [`/page/${name}.mjs`, `${name}.mjs`, "text/javascript; charset=utf-8"] as const,
  ),
];

export function pageRoutes({ feed, slow }: PageParts): RouteModule {
  return (app) => {
    for (const [url, file, type] of files) {
      const content = readFileSync(new URL(`../../page/${file}`, import.meta.url));
      app.get(
        url,
        { schema: { hide: true }, config: { isOpen: true } },
        async (_request, reply) => await secured(reply).header("content-type", type).send(content),
      );
    }
    app.get("/page/events", { schema: { hide: true } }, (_request, reply) => {
      const raw = reply.hijack().raw;
      const end = feed.connect({
        write: (text) => raw.write(text),
        get full() {
          return raw.writableNeedDrain;
        },
      });
      if (end === undefined) {
        raw.writeHead(503, { "content-type": "text/plain", "retry-after": "10" }).end("too many browsers look at this page\n");
        return;
      }
      raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" });
      raw.write("retry: 2000\n\n");
      raw.once("close", end);
      raw.once("error", end);
    });
    addRoute(app, {
      method: "GET",
      url: "/api/v1/slow-requests",
      summary: "The latest requests that failed or waited longer than nine of ten, with the steps of their wait.",
      answers: { 200: "The newest first, at most 64." },
      handle: () => ok({ requests: slow.list() }),
    });
  };
}

function secured(reply: FastifyReply): FastifyReply {
  return reply.headers({
    "content-security-policy": policy,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
  });
}
