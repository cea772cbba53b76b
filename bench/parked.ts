// Owns the asking of many requests at the same moment, over a few HTTP/2 connections.
import { type ClientHttp2Session, connect, constants } from "node:http2";
import type { SocketAddress } from "./addresses.ts";
import type { Http1Request } from "./load/http1.ts";

export interface AskedAtOnce {
  readonly answered: number;
  readonly failed: number;
  /** When each answer came, since the first request was sent, in the order of the answers. */
  readonly answeredMs: readonly number[];
  /** A few of them. */
  readonly reasons: readonly string[];
}

const sessions = 4;
const maxReasons = 3;

/** Resolves when every request has ended, well or not. */
export async function askAtOnce(
  { host, port }: SocketAddress,
  requests: readonly Http1Request[],
  signal: AbortSignal,
): Promise<AskedAtOnce> {
  const reasons = new Set<string>();
  const answeredMs: number[] = [];
  const startMs = performance.now();
  let failed = 0;
  const end = (reason: string | undefined): void => {
    if (reason === undefined) answeredMs.push(performance.now() - startMs);
    else {
      failed += 1;
      if (reasons.size < maxReasons) reasons.add(reason);
    }
  };
  const opened = Array.from({ length: sessions }, () => {
    const session = connect(`http://${host}:${port}`);
    // Each of its streams says so as well.
    session.on("error", () => undefined);
    return session;
  });
  const stop = (): void => opened.forEach((session) => session.destroy());
  signal.addEventListener("abort", stop, { once: true });
  try {
    const asking = requests.flatMap((request, at) => {
      const session = opened[at % sessions];
      return session === undefined ? [] : [ask(session, request).then(end)];
    });
    await Promise.all(asking);
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
  signal.throwIfAborted();
  return { answered: answeredMs.length, failed, answeredMs, reasons: [...reasons] };
}

/** Why it failed, if it did. */
async function ask(session: ClientHttp2Session, { path, body }: Http1Request): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: path,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/json",
    [constants.HTTP2_HEADER_CONTENT_LENGTH]: Buffer.byteLength(body),
  });
  let reason: string | undefined = "the stream ended without an answer";
  stream.on("response", (headers) => {
    const status = headers[":status"];
    reason = status === 200 ? undefined : `status ${status}`;
  });
  stream.on("error", (error) => {
    reason = error.message;
  });
  stream.once("close", () => resolve(reason));
  stream.resume();
  stream.end(body);
  return promise;
}
