// Owns what stands for the model servers of fake pods: over HTTP/1.1 it gives one and the same V2 answer to whatever is
// asked, at once, so that next to nothing but the way there is measured.
import { type AddressInfo, createServer, type Socket } from "node:net";
import { createMessageCutter } from "./load/http1.ts";

export interface Upstream extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
}

const host = "127.0.0.1";
const body = JSON.stringify({ model_name: "m", outputs: [{ name: "y", datatype: "FP32", shape: [1], data: [0] }] });
const answer = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
/** All parked requests go on at once, each over a connection of its own. */
const backlog = 16_384;

export async function openUpstream(): Promise<Upstream> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    const cutter = createMessageCutter();
    // Envoy closes what it no longer needs, in the middle of nothing: no concern here.
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (chunk: Buffer) => {
      const asked = cutter.push(chunk).length;
      if (asked > 0) socket.write(answer.repeat(asked));
    });
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen({ host, port: 0, backlog }, resolve);
  await promise;
  const { port } = server.address() as AddressInfo;
  return {
    host,
    port,
    async [Symbol.asyncDispose]() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      for (const socket of sockets) socket.destroy();
      await closed.promise;
    },
  };
}
