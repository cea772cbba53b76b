// Owns the watch of models: server-sent events, or JSON lines, that go on where an earlier watch ended.
// Invariants: a watcher that does not read is cut off when 1 MiB waits for it; so many watch at once at most; a heartbeat
// tells a broken connection from a quiet one.
import { z } from "zod";
import type { Models } from "../models.ts";
import { addRoute, type RouteModule, refuse, streamed, wholeQuery } from "../route.ts";

const maxWatchers = 64;
const heartbeatMs = 10_000;
const maxBufferedBytes = 2 ** 20;

export function watchRoutes(models: Models): RouteModule {
  let watchers = 0;
  return (app) => {
    addRoute(app, {
      method: "GET",
      url: "/api/v1/watch",
      summary: "Every change of models, as it happens.",
      description:
        "Server-sent events `put` and `delete`, their ids being registry revisions; with `Accept: application/x-ndjson` one " +
        "JSON object a line. It begins after `from`, or after Last-Event-ID, or with what is to come. An event `compacted` " +
        "ends it when some of the changes are forgotten: list again, and watch from there.",
      headers: { "last-event-id": "Where an earlier watch ended." },
      query: z.strictObject({ from: wholeQuery(0, Number.MAX_SAFE_INTEGER).optional() }),
      answers: {
        200: {
          says: "A stream that does not end.",
          body: z.string(),
          types: ["text/event-stream", "application/x-ndjson"],
        },
      },
      handle: async ({ query, header, reply }) => {
        const last = header("last-event-id");
        if (last !== undefined && !/^\d{1,15}$/.test(last)) return refuse("invalid-request", "last-event-id must be a number");
        if (watchers >= maxWatchers) return refuse("queue-full", `${maxWatchers} watch already`, 10_000);
        let from = query.from ?? (last === undefined ? undefined : Number(last));
        if (from === undefined) {
          const page = await models.list({ limit: 1, labels: [] });
          if (page.kind === "refused") return refuse(page.code, page.reason);
          from = page.value.revision;
          if (from === undefined) return refuse("registry-unavailable", "the registry does not answer");
        }
        const isLines = header("accept")?.includes("application/x-ndjson") === true;
        const gone = new AbortController();
        const { raw } = reply;
        reply.hijack();
        raw.writeHead(200, {
          "content-type": isLines ? "application/x-ndjson" : "text/event-stream",
          "cache-control": "no-store",
        });
        raw.once("close", () => gone.abort());
        const write = (type: string, id: number | undefined, body: unknown): void => {
          raw.write(isLines ? `${JSON.stringify({ type, ...asObject(body), revision: id })}\n` : eventOf(type, id, body));
          // Whoever does not read may come back from where he was.
          if (raw.writableLength > maxBufferedBytes) raw.destroy();
        };
        raw.flushHeaders();
        const beat = setInterval(() => raw.write(isLines ? "\n" : ": still here\n\n"), heartbeatMs);
        watchers += 1;
        try {
          for await (const news of models.watch(from, gone.signal)) {
            if (news.kind === "compacted") write("compacted", undefined, {});
            else if (news.model === undefined) write("delete", news.revision, { name: news.name });
            else write("put", news.revision, { name: news.name, model: models.describe(news.model) });
          }
        } catch {
          // The registry went away: the watcher comes back and goes on from its last event.
        } finally {
          watchers -= 1;
          clearInterval(beat);
          raw.end();
        }
        return streamed;
      },
    });
  };
}

function eventOf(type: string, id: number | undefined, body: unknown): string {
  return `event: ${type}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(body)}\n\n`;
}

function asObject(body: unknown): object {
  return typeof body === "object" && body !== null ? body : {};
}
