// Owns the HTTP face of the models: V2 and V1 inference, metadata and readiness. Loading is not here (admin.ts).
// Every answer of this server is JSON; every refusal is {"error": "..."}.
import type { IncomingMessage } from "node:http";
import { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from "fastify";
import { runInference } from "../inference.ts";
import { describeModel, serverDescription } from "../metadata.ts";
import { Refusal } from "../refusal.ts";
import type { Repository } from "../repository.ts";
import type { WhenGone } from "../session.ts";
import type { Counters } from "../stats.ts";
import { decodeBody, encodeBody, tooLarge } from "./bodies.ts";
import { buildInferAnswer, parseInferRequest } from "./infer.ts";
import { buildPredictions, parsePredictRequest } from "./predict.ts";

export interface RestOptions {
  readonly repository: Repository;
  readonly counters: Counters;
  readonly maxBodyBytes: number;
}

interface Answer {
  readonly body: string | Buffer;
  /** Set when raw bytes follow so many bytes of JSON. */
  readonly jsonBytes?: number;
}

interface Call {
  readonly model: string;
  readonly version: string | undefined;
  readonly request: FastifyRequest;
  readonly whenGone: WhenGone;
}

type Handler = (call: Call) => Answer | Refusal | Promise<Answer | Refusal>;

export function createRestServer(options: RestOptions): FastifyInstance {
  const { repository, maxBodyBytes } = options;
  const server = fastify({
    logger: false,
    bodyLimit: maxBodyBytes,
    // Envoy closes idle connections after an hour; were this server first, a request could meet the closing.
    keepAliveTimeout: 3_900_000,
    requestTimeout: 120_000,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 8_192 },
    frameworkErrors: (error, _request, reply) => void refuse(options, reply, parseFrameworkError(error, maxBodyBytes)),
    clientErrorHandler: ({ code }, socket) => {
      const isLarge = code === "HPE_HEADER_OVERFLOW";
      const body = isLarge ? '{"error":"the headers are too large"}' : '{"error":"the request is not HTTP/1.1"}';
      if (socket.writable) {
        socket.write(
          `HTTP/1.1 ${isLarge ? "431 Request Header Fields Too Large" : "400 Bad Request"}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
        );
      }
      socket.destroy();
    },
  });
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  server.setErrorHandler<FastifyError>((error, _request, reply) =>
    refuse(options, reply, parseFrameworkError(error, maxBodyBytes)),
  );
  server.setNotFoundHandler((request, reply) =>
    refuse(options, reply, new Refusal("no-path", `there is nothing at ${request.url.slice(0, 200)}`)),
  );

  const on = (path: string, handlers: { readonly GET?: Handler; readonly POST?: Handler }): void => {
    const allowed = Object.keys(handlers).join(", ");
    server.all<{ Params: { model?: string; version?: string } }>(path, async (request, reply) => {
      const handler = request.method === "POST" ? handlers.POST : readMethods.has(request.method) ? handlers.GET : undefined;
      if (handler === undefined) {
        reply.header("allow", allowed);
        return refuse(options, reply, new Refusal("wrong-method", `${request.method} is not allowed here; use ${allowed}`));
      }
      const { model = "", version } = request.params;
      const whenGone: WhenGone = (leave) => (reply.raw.destroyed ? leave() : void reply.raw.once("close", leave));
      const answer = await handler({ model, version, request, whenGone });
      return answer instanceof Refusal ? refuse(options, reply, answer) : await send(reply, answer);
    });
  };

  const live: Handler = () => ({ body: '{"live":true}' });
  on("/", { GET: live });
  on("/v2", { GET: () => ({ body: JSON.stringify(serverDescription) }) });
  on("/v2/health/live", { GET: live });
  on("/v2/health/ready", { GET: () => ({ body: '{"ready":true}' }) });
  for (const path of ["/v2/models/:model", "/v2/models/:model/versions/:version"]) {
    on(path, { GET: (call) => describe(repository, call) });
    on(`${path}/ready`, { GET: (call) => tellReady(repository, call) });
    on(`${path}/infer`, { POST: (call) => infer(options, call) });
  }
  on("/v1/models/:model", { GET: (call) => tellReady(repository, call), POST: (call) => predict(options, call) });
  return server;
}

const readMethods: ReadonlySet<string> = new Set(["GET", "HEAD"]);

async function infer(options: RestOptions, { model, version, request, whenGone }: Call): Promise<Answer | Refusal> {
  options.counters.requests += 1;
  const lease = options.repository.lease(model, version);
  if (lease instanceof Refusal) return lease;
  using held = lease;
  const body = await readBody(options, request);
  if (body instanceof Refusal) return body;
  const headerLength = request.headers["inference-header-content-length"];
  const parsed = parseInferRequest(body, Array.isArray(headerLength) ? headerLength.join() : headerLength);
  if (parsed instanceof Refusal) return parsed;
  const outputs = await runInference(held.session, parsed.inputs, parsed.outputNames, whenGone);
  return outputs instanceof Refusal ? outputs : buildInferAnswer(held, parsed, outputs);
}

/** The method of V1 stands behind the name's last colon: /v1/models/NAME:predict. */
async function predict(options: RestOptions, { model, request, whenGone }: Call): Promise<Answer | Refusal> {
  if (!model.endsWith(":predict")) return new Refusal("no-path", "the V1 protocol has POST /v1/models/NAME:predict only");
  options.counters.requests += 1;
  const lease = options.repository.lease(model.slice(0, -":predict".length), undefined);
  if (lease instanceof Refusal) return lease;
  using held = lease;
  const body = await readBody(options, request);
  if (body instanceof Refusal) return body;
  const parsed = parsePredictRequest(body, held.session);
  if (parsed instanceof Refusal) return parsed;
  const outputs = await runInference(held.session, parsed.inputs, undefined, whenGone);
  if (outputs instanceof Refusal) return outputs;
  const predictions = buildPredictions(parsed.rows, outputs);
  return predictions instanceof Refusal ? predictions : { body: predictions };
}

async function readBody(options: RestOptions, request: FastifyRequest): Promise<Buffer | Refusal> {
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  const { "content-type": type, "content-encoding": encoding } = request.headers;
  return await decodeBody(body, type, encoding, options.maxBodyBytes);
}

function describe(repository: Repository, { model, version }: Call): Answer | Refusal {
  const lease = repository.lease(model, version);
  if (lease instanceof Refusal) return lease;
  using held = lease;
  return { body: JSON.stringify(describeModel(held)) };
}

function tellReady(repository: Repository, { model, version }: Call): Answer | Refusal {
  const lease = repository.lease(model, version);
  if (lease instanceof Refusal) return lease;
  using held = lease;
  return { body: JSON.stringify({ name: held.publicName, ready: true }) };
}

async function send(reply: FastifyReply, answer: Answer): Promise<FastifyReply> {
  if (answer.jsonBytes === undefined) reply.header("content-type", "application/json");
  else reply.header("content-type", "application/octet-stream").header("inference-header-content-length", answer.jsonBytes);
  const accepted = reply.request.headers["accept-encoding"];
  const encoded = await encodeBody(answer.body, Array.isArray(accepted) ? accepted.join() : accepted);
  if (encoded === undefined) return reply.send(answer.body);
  return reply.header("content-encoding", encoded.encoding).header("vary", "accept-encoding").send(encoded.body);
}

async function refuse({ counters, maxBodyBytes }: RestOptions, reply: FastifyReply, refusal: Refusal): Promise<FastifyReply> {
  counters.errors += 1;
  reply.headers(refusal.headers);
  if (refusal.kind === "too-large") {
    reply.removeHeader("connection");
    await readOn(reply.request.raw, readOnTimes * maxBodyBytes);
  }
  return reply
    .code(refusal.httpStatus)
    .header("content-type", "application/json")
    .send(JSON.stringify({ error: refusal.message }));
}

/**
 * A body that is too large is read, and thrown away, before it is refused: Envoy reads nothing any more of a request that has its
 * answer, and closes the connection after a second. Many clients that are still sending then do not see the answer. What is
 * this many times over the limit is refused at once.
 */
const readOnTimes = 4;

/** Resolves when the body is at its end, broken off, or longer than that. */
async function readOn(body: IncomingMessage, mostBytes: number): Promise<void> {
  if (body.readableEnded || body.destroyed || Number(body.headers["content-length"] ?? 0) > mostBytes) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  let bytes = 0;
  body.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > mostBytes) resolve();
  });
  body.on("close", resolve);
  body.on("end", resolve);
  await promise;
}

function parseFrameworkError(error: unknown, maxBodyBytes: number): Refusal {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const status = error instanceof Error && "statusCode" in error ? Number(error.statusCode) : 500;
  const message = error instanceof Error ? error.message : String(error);
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE" || status === 413) return tooLarge(maxBodyBytes);
  if (status === 415) return new Refusal("wrong-media", message);
  return status >= 400 && status < 500
    ? new Refusal("bad-request", message)
    : new Refusal("fault", `the model server failed: ${message}`);
}
