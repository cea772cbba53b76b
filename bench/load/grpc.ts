// Owns gRPC load: unary calls over one HTTP/2 connection, as a gRPC client has it. Each client waits for its answer.
import { type ClientHttp2Session, connect, constants } from "node:http2";
import type { Meter } from "./meter.ts";
import type { LoadPlan, LoadRequest } from "./plan.ts";

interface Call {
  readonly path: string;
  readonly frame: Buffer;
}

/** Asks until the signal is aborted; resolves when every client has had its last answer. */
export async function runGrpcLoad(
  plan: LoadPlan,
  requests: readonly LoadRequest[],
  meter: Meter,
  signal: AbortSignal,
): Promise<void> {
  const calls = requests.map(({ path, body }): Call => ({ path, frame: frameOf(Buffer.from(body, "base64")) }));
  const session = connect(`http://${plan.host}:${plan.port}`);
  session.on("error", (error) => meter.failed(error.message));
  let next = 0;
  const client = async (): Promise<void> => {
    while (!signal.aborted && !session.destroyed) {
      next = next + 1 < calls.length ? next + 1 : 0;
      const call = calls[next];
      if (call === undefined) return;
      const sentMs = performance.now();
      const reason = await ask(session, call);
      if (reason === undefined) meter.answered(performance.now() - sentMs);
      else meter.failed(reason);
    }
  };
  await Promise.all(Array.from({ length: plan.concurrency }, client));
  session.destroy();
}

/** Length-prefixed message: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
function frameOf(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Why it failed, if it did. */
function ask(session: ClientHttp2Session, { path, frame }: Call): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: path,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    te: "trailers",
  });
  let reason: string | undefined = "the stream ended without a status";
  const read = (headers: Readonly<Record<string, unknown>>): void => {
    const status = headers["grpc-status"];
    if (status !== undefined) reason = status === "0" ? undefined : JSON.stringify([status, headers["grpc-message"]]);
  };
  stream.on("response", read);
  stream.on("trailers", read);
  stream.on("error", (error) => {
    reason = error.message;
  });
  stream.once("close", () => resolve(reason));
  stream.resume();
  stream.end(frame);
  return promise;
}
