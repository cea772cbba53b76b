// Owns calls over REST: POST /v2/models/NAME/infer on connections that are kept open, one for each client.
import { Pool } from "undici";
import { type InferBody, parseAnswer } from "#cli/library/answer.ts";
import { parseJson } from "#platform/json.ts";
import { type Caller, type CallResult, type ClientTls, loadHeader } from "./caller.ts";

export interface RestOptions {
  readonly url: string;
  readonly connections: number;
  readonly timeoutMs: number;
  readonly tls?: ClientTls | undefined;
}

export function createRestCaller({ url, connections, timeoutMs, tls }: RestOptions): Caller {
  const pool = new Pool(url, {
    connections,
    pipelining: 1,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    ...(tls === undefined ? {} : { connect: tls }),
  });
  return {
    protocol: "rest",
    async infer(model, body): Promise<CallResult> {
      try {
        return await post(pool, model, body);
      } catch (error) {
        return { kind: "failed", reason: `REST: ${error instanceof Error ? error.message : String(error)}` };
      }
    },
    async [Symbol.asyncDispose]() {
      await pool.destroy();
    },
  };
}

async function post(pool: Pool, model: string, body: InferBody): Promise<CallResult> {
  const answer = await pool.request({
    method: "POST",
    path: `/v2/models/${encodeURIComponent(model)}/infer`,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await answer.body.text();
  if (answer.statusCode !== 200) return { kind: "failed", reason: `REST: HTTP ${answer.statusCode} ${text}` };
  const outputs = parseAnswer(parseJson(text));
  return outputs === undefined
    ? { kind: "failed", reason: `REST: no V2 answer: ${text}` }
    : { kind: "answered", outputs, miss: answer.headers[loadHeader] !== undefined };
}
