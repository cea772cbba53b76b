// Owns scripted model servers in this process, for those that no package carries: each answers as its documents say, and
// can be made to hang, die, forget, or run out of memory. The drivers' contract suite runs over them.
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface Reply {
  readonly status: number;
  readonly body: unknown;
}

/** One request, of a server that holds `held`: names, and the paths that they were loaded from. */
export type Script = (request: Asked, held: Map<string, string>) => Promise<Reply> | Reply;

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: unknown;
}

export interface ScriptedServer extends AsyncDisposable {
  /** `host:port` */
  readonly address: string;
  readonly held: Map<string, string>;
  /** Each request, `METHOD /path`. */
  readonly asked: string[];
  kill(): Promise<void>;
  revive(): Promise<void>;
  hang(): void;
  resume(): void;
}

export async function openScripted(script: Script): Promise<ScriptedServer> {
  const held = new Map<string, string>();
  const asked: string[] = [];
  let waiting: PromiseWithResolvers<void> | undefined;
  let server: Server;
  let port = 0;

  const answer = async (request: IncomingMessage): Promise<Reply> => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const given = await text(request);
    asked.push(`${request.method} ${decodeURIComponent(url.pathname)}`);
    await waiting?.promise;
    const body: unknown = given === "" ? undefined : JSON.parse(given);
    return await script(
      { method: request.method ?? "", path: decodeURIComponent(url.pathname), query: url.searchParams, body },
      held,
    );
  };
  const listen = async (): Promise<void> => {
    server = createServer((request, response) => {
      void answer(request).then(
        ({ status, body }) => {
          response.writeHead(status, { "content-type": "application/json" });
          response.end(typeof body === "string" ? body : JSON.stringify(body));
        },
        () => response.destroy(),
      );
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
    await promise;
    port = (server.address() as AddressInfo).port;
  };
  await listen();
  const kill = async (): Promise<void> => {
    held.clear();
    const { promise, resolve } = Promise.withResolvers<void>();
    server.close(() => resolve());
    server.closeAllConnections();
    await promise;
    waiting?.reject(new Error("killed"));
    waiting = undefined;
  };
  return {
    address: `127.0.0.1:${port}`,
    held,
    asked,
    kill,
    revive: listen,
    hang(): void {
      waiting ??= Promise.withResolvers<void>();
      waiting.promise.catch(() => undefined);
    },
    resume(): void {
      waiting?.resolve();
      waiting = undefined;
    },
    [Symbol.asyncDispose]: kill,
  };
}

export function fieldOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}
