// Owns the gRPC port. Node writes the trailers of an answer apart from its message, two turns of its loop later; a server that
// is killed between the two has begun an answer that nobody ends and that Envoy may not ask of another pod. So what a connection
// writes within so many turns leaves as one, as the answers of gRPC's own servers do.
import { createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { type Server, ServerCredentials } from "@grpc/grpc-js";
import { closeServer } from "#platform/grpc.ts";

export interface GrpcListener {
  readonly port: number;
  /** Takes nothing new and lets calls under way end for so long. */
  readonly close: (graceMs: number) => Promise<void>;
}

/** Rejects when it cannot listen there; `port` 0: any that is free. */
export async function listenGrpc(server: Server, host: string, port: number): Promise<GrpcListener> {
  const { injectConnection } = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => injectConnection(new GatheredSocket(socket)));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  listener.once("error", reject);
  listener.listen({ host, port, backlog: 4_096 }, resolve);
  await promise;
  const address = listener.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    async close(graceMs) {
      listener.close();
      await closeServer(server, graceMs);
    },
  };
}

/**
 * Of the loop, from a message's write to behind that of its trailers: grpc-js hears that the message was written, ends the stream
 * in the next turn, and Node writes in the one after it.
 */
const turnsToTrailers = 3;

/** Bytes. */
const mostGathered = 32 * 1024;

/** As Node's HTTP/2 hands it over: a frame, or a part of one. */
interface Piece {
  readonly chunk: Buffer;
}

/** By the fourth byte, the type of a frame (RFC 9113, section 4.1): HEADERS or DATA. Windows and the like are not held up. */
function isOfAnAnswer({ chunk }: Piece): boolean {
  return chunk[3] === 0 || chunk[3] === 1;
}

/** A connection as Node's HTTP/2 uses it; what it writes waits for a few turns. */
class GatheredSocket extends Duplex {
  readonly #socket: Socket;
  /** What ends the wait. */
  #gathers: NodeJS.Immediate | undefined;

  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    socket.on("data", (chunk) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.on("end", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }

  /** For logs of grpc-js. */
  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress;
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this._writev([{ chunk }], done);
  }

  override _writev(chunks: readonly Piece[], done: () => void): void {
    if (chunks.some(isOfAnAnswer)) this.#gather();
    for (const { chunk } of chunks) this.#socket.write(chunk);
    // No system takes so much at once, so waiting for more is of no use.
    if (this.#gathers !== undefined && this.#socket.writableLength > mostGathered) this.#release();
    if (this.#socket.writableNeedDrain) this.#socket.once("drain", done);
    else done();
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  #gather(): void {
    if (this.#gathers !== undefined) return;
    this.#socket.cork();
    const wait = (turns: number): void => {
      if (turns === 0) this.#release();
      else this.#gathers = setImmediate(wait, turns - 1);
    };
    wait(turnsToTrailers);
  }

  #release(): void {
    clearImmediate(this.#gathers);
    this.#gathers = undefined;
    this.#socket.uncork();
  }
}
