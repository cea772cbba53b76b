// Owns a web server for tests that does what it is told: serves files with ranges and ETags, and fails in scripted ways.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Script = (request: IncomingMessage, response: ServerResponse) => void;

export interface TestWebServer extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly { readonly path: string; readonly headers: IncomingMessage["headers"] }[];
  /** Content by path, given out as a good server does. */
  readonly files: Map<string, Buffer>;
  /** What is done instead at a path, once for each entry. */
  readonly scripts: Map<string, Script[]>;
}

export async function openTestWebServer(): Promise<TestWebServer> {
  const files = new Map<string, Buffer>();
  const scripts = new Map<string, Script[]>();
  const requests: { path: string; headers: IncomingMessage["headers"] }[] = [];
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    requests.push({ path, headers: request.headers });
    const script = scripts.get(path)?.shift();
    if (script !== undefined) return script(request, response);
    const content = files.get(path.replace(/\?.*$/, ""));
    if (content === undefined) return void response.writeHead(404).end("no such thing");
    serveFile(request, response, content);
    return undefined;
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    files,
    scripts,
    async [Symbol.asyncDispose](): Promise<void> {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      await closed.promise;
    },
  };
}

export function etagOf(content: Buffer): string {
  return `"${createHash("sha1").update(content).digest("hex")}"`;
}

export function serveFile(request: IncomingMessage, response: ServerResponse, content: Buffer): void {
  const etag = etagOf(content);
  const wanted = request.headers["if-match"];
  if (wanted !== undefined && wanted !== etag) return void response.writeHead(412).end();
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const headers = { etag, "content-type": "application/octet-stream" };
  if (range === null) return void response.writeHead(200, { ...headers, "content-length": content.length }).end(content);
  const from = Number(range[1]);
  const to = range[2] === "" ? content.length - 1 : Math.min(Number(range[2]), content.length - 1);
  if (from >= content.length) return void response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
  const part = content.subarray(from, to + 1);
  return void response
    .writeHead(206, { ...headers, "content-range": `bytes ${from}-${to}/${content.length}`, "content-length": part.length })
    .end(part);
}
