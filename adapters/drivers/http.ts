// Owns calls to a model server over HTTP: one pool of connections, answers of bounded length, and how a call can fail.
// Invariant: a call ends with an answer, with `gone` or with `late`; it throws only the reason of its signal.
import { type Dispatcher, errors, Pool } from "undici";
import { errorMessage } from "#core/errors.ts";
import { openDeadline } from "#platform/deadline.ts";
import { parseJson } from "#platform/json.ts";
import type { Failure } from "./driver.ts";

export type Answer =
  | { readonly kind: "answer"; readonly status: number; readonly text: string; readonly json: unknown }
  /** Nobody listens there, or who did has closed the connection. */
  | { readonly kind: "gone"; readonly reason: string }
  /** No answer in time, or none that could be read. */
  | { readonly kind: "late"; readonly reason: string };

export interface HttpCall {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface HttpCaller extends AsyncDisposable {
  call(call: HttpCall): Promise<Answer>;
}

const maxAnswerBytes = 64 * 2 ** 20;
const maxConnections = 16;

/** `address` is `host:port` or `unix:/path`. */
export function createHttpCaller(address: string): HttpCaller {
  const socketPath = address.startsWith("unix:") ? address.slice("unix:".length) : undefined;
  const origin = socketPath === undefined ? `http://${address}` : "http://localhost";
  const pool = new Pool(origin, {
    ...(socketPath === undefined ? {} : { socketPath }),
    headersTimeout: 0,
    bodyTimeout: 0,
    connections: maxConnections,
    connect: { timeout: 2_000 },
  });
  return {
    async call({ method, path, body, timeoutMs, signal }): Promise<Answer> {
      using deadline = openDeadline(timeoutMs, signal);
      const send = async (): Promise<Answer> => {
        const request: Dispatcher.RequestOptions = {
          method,
          path,
          ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
          signal: deadline.signal,
        };
        const { statusCode, body: answer } = await pool.request(request);
        const text = await readText(answer);
        return { kind: "answer", status: statusCode, text, json: parseJson(text) };
      };
      try {
        return await send().catch(async (error: unknown) => {
          // The server may have closed a kept connection at the very moment of its use. Every call may be made twice; a
          // server that died refuses the second one.
          if (!wasReset(error) || deadline.signal.aborted) throw error;
          return await send();
        });
      } catch (error) {
        signal.throwIfAborted();
        return { kind: isGone(error) ? "gone" : "late", reason: errorMessage(error) };
      }
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await pool.destroy();
    },
  };
}

/** What a call without an answer means for whoever asked. */
export function unanswered({ reason }: { readonly reason: string }): Failure {
  return { kind: "failed", failure: "pod", reason: `the model server did not answer: ${reason}` };
}

/** A failure in the model server's own words, if it has any. */
export function failedWith(failure: Failure["failure"], what: string, said: string): Failure {
  const words = said.replaceAll(/\s+/g, " ").trim();
  const kind = isOutOfMemory(words) ? "capacity" : failure;
  return { kind: "failed", failure: kind, reason: words === "" ? what : `${what}: ${words.slice(0, 400).toWellFormed()}` };
}

/** Whether a model server's words tell of memory that did not suffice. */
function isOutOfMemory(words: string): boolean {
  return /out of memory|outofmemory|bad_alloc|MemoryError|can(?:not|'t) allocate memory|RESOURCE_EXHAUSTED|(?:failed|unable) to allocate/i.test(
    words,
  );
}

/** `{"error": "..."}`, as most model servers put it, else the text itself. */
export function wordsOf({ json, text }: { readonly json: unknown; readonly text: string }): string {
  for (const key of ["error", "message", "detail"]) {
    const value: unknown = typeof json === "object" && json !== null ? Reflect.get(json, key) : undefined;
    if (typeof value === "string") return value;
    const inner: unknown = typeof value === "object" && value !== null ? Reflect.get(value, "message") : undefined;
    if (typeof inner === "string") return inner;
  }
  return text;
}

export async function readText(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > maxAnswerBytes) throw new Error("the model server's answer is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

const goneCodes: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOENT", "ECONNRESET", "EPIPE"]);

function wasReset(error: unknown): boolean {
  return error instanceof errors.SocketError || (error instanceof Error && "code" in error && error.code === "ECONNRESET");
}

/** Nobody listens, or who did has closed the connection. */
export function isGone(error: unknown): boolean {
  if (error instanceof errors.SocketError) return true;
  return error instanceof Error && "code" in error && goneCodes.has(String(error.code));
}
