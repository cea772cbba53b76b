// Owns the management API on the unix socket, the only place where models are loaded and unloaded.
// HTTP/1 with JSON; who may open the socket may do all of it, so its mode is 0600.
import { chmod, rm, stat } from "node:fs/promises";
import { connect } from "node:net";
import { type FastifyError, type FastifyInstance, fastify } from "fastify";
import { z } from "zod";
import { StartupError } from "#platform/lifecycle.ts";
import type { Log } from "#platform/log.ts";
import type { Repository } from "./repository.ts";
import type { LoadFailure } from "./session.ts";
import type { Counters } from "./stats.ts";

export interface AdminOptions {
  readonly repository: Repository;
  readonly counters: Counters;
  readonly log: Log;
}

const loadSchema = z.object({
  parameters: z.object({
    path: z.string().startsWith("/", "must be an absolute path").max(4_096),
    revision: z.string().min(1).max(256).optional(),
    version: z.string().min(1).max(64).optional(),
  }),
});

const unloadSchema = z
  .object({ parameters: z.object({ drainMs: z.number().min(0).max(600_000).optional() }).optional() })
  .nullish();

const nameSchema = z.string().min(1).max(512);

const failureStatus: Readonly<Record<LoadFailure["kind"], number>> = { model: 422, storage: 404, pod: 503 };

export function createAdminServer({ repository, counters, log }: AdminOptions): FastifyInstance {
  const server = fastify({ logger: false, bodyLimit: 64 * 1_024, routerOptions: { maxParamLength: 8_192 } });
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => {
    try {
      done(null, body === "" ? undefined : JSON.parse(String(body)));
    } catch {
      done(Object.assign(new Error("the body is not JSON"), { statusCode: 400 }));
    }
  });
  server.setErrorHandler<FastifyError>((error, _request, reply) =>
    reply.code(error.statusCode ?? 500).send({ error: error.message, kind: "pod" }),
  );
  server.setNotFoundHandler((request, reply) =>
    reply.code(404).send({ error: `there is nothing at ${request.url.slice(0, 200)}` }),
  );

  server.post<{ Params: { model: string } }>("/v2/repository/models/:model/load", async (request, reply) => {
    const name = nameSchema.safeParse(request.params.model);
    const body = loadSchema.safeParse(request.body);
    if (!name.success || !body.success) return reply.code(400).send({ error: explain(name.error ?? body.error), kind: "pod" });
    const { path, revision = path, version } = body.data.parameters;
    const loaded = await repository.load(name.data, { path, revision, ...(version === undefined ? {} : { version }) });
    if (!("kind" in loaded)) return loaded;
    log.warn("load failed", { model: name.data, revision, kind: loaded.kind, reason: loaded.message });
    return reply.code(failureStatus[loaded.kind]).send({ error: loaded.message, kind: loaded.kind });
  });

  server.post<{ Params: { model: string } }>("/v2/repository/models/:model/unload", async (request, reply) => {
    const body = unloadSchema.safeParse(request.body);
    if (!body.success) return reply.code(400).send({ error: explain(body.error), kind: "pod" });
    return { inFlight: await repository.unload(request.params.model, body.data?.parameters?.drainMs ?? 5_000) };
  });

  server.post("/v2/repository/index", () => repository.index());
  server.get("/stats", () => ({
    models: repository.count,
    requests: counters.requests,
    errors: counters.errors,
    rssBytes: process.memoryUsage.rss(),
    usedBytes: repository.usedBytes,
  }));
  return server;
}

function explain(error: z.ZodError | undefined): string {
  return error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ") ?? "bad request";
}

/** Listens on a socket file that only this user can open. A file left by a dead server is replaced. */
export async function listenAdmin(server: FastifyInstance, path: string): Promise<void> {
  await removeDeadSocket(path);
  // The file is created by listen itself, so the mode must hold from the start.
  const umask = process.umask(0o177);
  try {
    await server.listen({ path });
  } catch (error) {
    throw new StartupError(`cannot listen on ${path}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    process.umask(umask);
  }
  await chmod(path, 0o600);
}

async function removeDeadSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) throw new StartupError(`--admin-socket ${path} is a file of another kind; name a path that is free`);
  const alive = Promise.withResolvers<boolean>();
  const probe = connect(path, () => alive.resolve(true)).once("error", () => alive.resolve(false));
  const answered = await alive.promise;
  probe.destroy();
  if (answered) throw new StartupError(`another server is listening on ${path}`);
  await rm(path, { force: true });
}
