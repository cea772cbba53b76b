// Owns plain calls over HTTP whose path and headers go out exactly as given.
import { Readable } from "node:stream";
import { Client } from "undici";
import { parseJson } from "#platform/json.ts";

export interface RestAsk {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE" | "HEAD";
  /** In this order, repeats included. */
  readonly headers?: readonly (readonly [string, string])[];
  /** Text, bytes, or bytes in pieces, whose length `headers` must tell; anything else is sent as JSON. */
  readonly body?: unknown;
}

export interface RestAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** Undefined when the text is no JSON. */
  readonly json: unknown;
  readonly tookMs: number;
}

export interface RestClient extends AsyncDisposable {
  /** POST when there is a body, else GET. */
  ask(path: string, ask?: RestAsk): Promise<RestAnswer>;
}

const timeoutMs = 120_000;

function isSentAsIs(body: unknown): body is undefined | string | Uint8Array | Readable {
  return body === undefined || typeof body === "string" || body instanceof Uint8Array || body instanceof Readable;
}

/** `ca`: of an `https:` one. */
export function createRestClient(url: string, ca?: Buffer): RestClient {
  const client = new Client(url, {
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    pipelining: 1,
    ...(ca === undefined ? {} : { connect: { ca } }),
  });
  return {
    async ask(path, { method, headers = [], body } = {}) {
      const startMs = performance.now();
      const sent = isSentAsIs(body) ? body : JSON.stringify(body);
      const answer = await client.request({
        method: method ?? (sent === undefined ? "GET" : "POST"),
        path,
        headers: headers.flat(),
        ...(sent === undefined ? {} : { body: sent }),
      });
      const text = await answer.body.text();
      return {
        status: answer.statusCode,
        headers: answer.headers,
        text,
        json: parseJson(text),
        tookMs: performance.now() - startMs,
      };
    },
    [Symbol.asyncDispose]: () => client.destroy(),
  };
}
