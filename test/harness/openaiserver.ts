// Owns a scripted server that speaks as much of OpenAI's API as the tests need. Its streamed answers stop after the first
// part until they are let go on, so that whoever holds them back is found out.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface OpenaiServer extends AsyncDisposable {
  /** `host:port` */
  readonly address: string;
  /** Paths asked for, and the model named in each body. */
  readonly asked: readonly { readonly path: string; readonly model: unknown }[];
  /** Lets streams that wait after their first part go on. */
  goOn(): void;
}

export async function openOpenaiServer(): Promise<OpenaiServer> {
  const asked: { path: string; model: unknown }[] = [];
  let waiting: (() => void)[] = [];
  const server = createServer((request, response) => {
    void answer(request, response).catch(() => response.destroy());
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    const body: unknown = JSON.parse(await text(request));
    const { model, stream } = Object(body) as { model?: unknown; stream?: unknown };
    asked.push({ path, model });
    if (path === "/v1/embeddings") {
      return json(response, { object: "list", model, data: [{ object: "embedding", index: 0, embedding: [0.5, 0.25] }], usage });
    }
    const chat = path === "/v1/chat/completions";
    const kind = chat ? "chat.completion" : "text_completion";
    if (stream !== true) {
      const choice = chat ? { message: { role: "assistant", content: "Paris" } } : { text: "Paris" };
      return json(response, {
        id: "1",
        object: kind,
        created: 1,
        model,
        choices: [{ index: 0, finish_reason: "stop", ...choice }],
        usage,
      });
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    part(response, model, "Pa");
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.push(resolve);
    await promise;
    part(response, model, "ris");
    response.end("data: [DONE]\n\n");
  }

  function goOn(): void {
    for (const next of waiting) next();
    waiting = [];
  }

  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    goOn,
    async [Symbol.asyncDispose]() {
      goOn();
      server.closeAllConnections();
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      await closed.promise;
    },
  };
}

const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };

function json(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function part(response: ServerResponse, model: unknown, content: string): void {
  const choices = [{ index: 0, delta: { content }, finish_reason: null }];
  response.write(`data: ${JSON.stringify({ id: "1", object: "chat.completion.chunk", created: 1, model, choices })}\n\n`);
}
