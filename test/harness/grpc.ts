// Owns gRPC calls made of raw HTTP/2, so that frames, messages and headers may be wrong in every way.
import { once } from "node:events";
import { connect, constants, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2";
import { Readable } from "node:stream";

export interface GrpcAnswer {
  readonly httpStatus: number;
  /** Undefined when the answer is none of gRPC. */
  readonly status: number | undefined;
  readonly message: string;
  /** Headers and trailers. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly tookMs: number;
}

export interface GrpcClient extends AsyncDisposable {
  /** `body` as it goes over the wire, at once or in pieces; see frameOf. */
  call(path: string, body: Uint8Array | Readable, headers?: OutgoingHttpHeaders): Promise<GrpcAnswer>;
}

export const inferencePath = (method: string): string => `/inference.GRPCInferenceService/${method}`;

const timeoutMs = 120_000;

/** One message in a gRPC frame; `length` and `flag` may lie. */
export function frameOf(message: Uint8Array, { length = message.length, flag = 0 } = {}): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flag, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

/** `target` is `host:port`. */
export async function openGrpcClient(target: string): Promise<GrpcClient> {
  const session = connect(`http://${target}`);
  await once(session, "connect");
  session.on("error", () => undefined);
  return {
    async call(path, body, headers = {}) {
      const startMs = performance.now();
      const stream = session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        ...headers,
      });
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const got: IncomingHttpHeaders = {};
      const chunks: Buffer[] = [];
      stream.setTimeout(timeoutMs, () => stream.close(constants.NGHTTP2_CANCEL));
      stream.on("response", (more) => Object.assign(got, more));
      stream.on("trailers", (more) => Object.assign(got, more));
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      // A server that has answered may refuse the rest of the request; that is no failure of the call.
      stream.on("error", (error) => (got[":status"] === undefined ? reject(error) : resolve()));
      stream.on("close", () =>
        got[":status"] === undefined
          ? reject(new Error(`${path}: no answer, the stream closed with ${stream.rstCode}`))
          : resolve(),
      );
      if (body instanceof Readable) body.pipe(stream);
      else stream.end(body);
      await promise;
      const status = got["grpc-status"];
      return {
        httpStatus: Number(got[":status"]),
        status: typeof status === "string" ? Number(status) : undefined,
        message: decodeMessage(got["grpc-message"]),
        headers: got,
        body: Buffer.concat(chunks),
        tookMs: performance.now() - startMs,
      };
    },
    async [Symbol.asyncDispose]() {
      session.destroy();
    },
  };
}

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: percent-encoded UTF-8. */
function decodeMessage(text: unknown): string {
  if (typeof text !== "string") return "";
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
