// Owns the HTTP server on which a process is scraped without its management API: GET /metrics, GET /healthz, and GET
// /drained, which is answered when the process has let go of what it served: for others that are to end after it.
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { errorMessage } from "#core/errors.ts";
import { chooseFormat, contentTypes } from "./exposition.ts";
import type { Log } from "./log.ts";
import type { Scrapable } from "./metrics.ts";
import { contextOf, type PemFiles } from "./tls/pems.ts";

export interface MetricsServer extends AsyncDisposable {
  readonly port: number;
}

export async function openMetricsServer(
  options: {
    readonly host: string;
    readonly port: number;
    /** Resolves when this process is drained; rejects when it has not been asked to. There is no /drained when absent. */
    readonly untilDrained?: ((signal: AbortSignal) => Promise<void>) | undefined;
    /** Plain text when absent. */
    readonly tls?: PemFiles | undefined;
  },
  metrics: Scrapable,
  log: Log,
): Promise<MetricsServer> {
  const { untilDrained, tls } = options;
  const server = openServer(tls, (request, response) => {
    if (untilDrained !== undefined && request.method === "GET" && request.url === "/drained") {
      void answerDrained(response, untilDrained);
    } else answerScrape(request, response, metrics, log);
  });
  server.maxConnections = 64;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(options.port, options.host, resolve);
  await promise;
  const address: AddressInfo | string | null = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : options.port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((done) => void server.close(() => done()));
      server.closeAllConnections();
      await closed;
    },
  };
}

const limits = { requestTimeout: 5_000, headersTimeout: 5_000, maxHeaderSize: 16_384 };

function openServer(tls: PemFiles | undefined, listener: RequestListener): Server {
  if (tls === undefined) return createServer(limits, listener);
  const server = createSecureServer({ ...limits, handshakeTimeout: 5_000, ...contextOf(tls.now) }, listener);
  tls.onRenewed((pems) => server.setSecureContext(contextOf(pems)));
  return server;
}

/** For a server that answers other questions too: everything but GET /metrics and GET /healthz is refused. */
export function answerScrape(request: IncomingMessage, response: ServerResponse, metrics: Scrapable, log: Log): void {
  answer(request, response, metrics).catch((error: unknown) => {
    log.error("a scrape failed", { reason: errorMessage(error) });
    if (!response.headersSent) response.writeHead(500);
    response.end();
  });
}

async function answerDrained(response: ServerResponse, untilDrained: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const gone = new AbortController();
  response.once("close", () => gone.abort(new Error("nobody waits any more")));
  const [status, says] = await untilDrained(gone.signal).then(
    () => [200, "drained\n"] as const,
    (error: unknown) => [409, `${errorMessage(error)}\n`] as const,
  );
  response.writeHead(status, { "content-type": "text/plain", "cache-control": "no-store" });
  response.end(says);
}

async function answer(request: IncomingMessage, response: ServerResponse, metrics: Scrapable): Promise<void> {
  const [path = ""] = (request.url ?? "").split("?");
  const say = (status: number, type: string, body: string): void => {
    response.writeHead(status, { "content-type": type, "cache-control": "no-store" });
    response.end(request.method === "HEAD" ? undefined : body);
  };
  if (request.method !== "GET" && request.method !== "HEAD") return say(405, "text/plain", "only GET\n");
  if (path === "/healthz") return say(200, "text/plain", "ok\n");
  if (path !== "/metrics") return say(404, "text/plain", "there is only /metrics\n");
  const format = chooseFormat(request.headers.accept);
  return say(200, contentTypes[format], await metrics.render(format));
}
