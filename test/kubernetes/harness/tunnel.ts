// Owns the way into a network namespace: a process inside it joins connections of a unix socket, which everybody on the
// machine can reach, with addresses inside. A connection begins with one line, `host:port`.
// Run inside by: nsenter --net ... node tunnel.ts SOCKET
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

const maxLine = 256;

/** Serves until the process ends. */
export async function serveTunnel(path: string): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (outside) => {
    outside.on("error", () => outside.destroy());
    void readLine(outside).then((line) => {
      const at = line?.lastIndexOf(":") ?? -1;
      if (line === undefined || at === -1) return outside.destroy();
      const inside = connect({ host: line.slice(0, at), port: Number(line.slice(at + 1)), allowHalfOpen: true, noDelay: true });
      return join(outside, inside);
    });
  });
  server.listen(path);
  await once(server, "listening");
  return server;
}

export interface Forward extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
}

/** A loopback port of this machine that leads to an address inside. */
export async function openForward(path: string, host: string, port: number): Promise<Forward> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (outside) => {
    const inside = connect({ path, allowHalfOpen: true });
    inside.write(`${host}:${port}\n`);
    for (const socket of [outside, inside]) {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    }
    join(outside, inside);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return {
    host: "127.0.0.1",
    port: typeof address === "object" && address !== null ? address.port : 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

function join(one: Socket, other: Socket): void {
  one.pipe(other);
  other.pipe(one);
  one.on("error", () => other.destroy());
  other.on("error", () => one.destroy());
  one.on("close", () => other.destroy());
  other.on("close", () => one.destroy());
}

/** What follows the line stays in the socket. */
async function readLine(socket: Socket): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  let head = Buffer.alloc(0);
  const onData = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk]);
    const at = head.indexOf(10);
    if (at === -1 && head.length <= maxLine) return;
    socket.off("data", onData);
    socket.pause();
    if (at === -1) return resolve(undefined);
    socket.unshift(head.subarray(at + 1));
    resolve(head.subarray(0, at).toString("utf8"));
  };
  socket.on("data", onData);
  socket.once("close", () => resolve(undefined));
  return await promise;
}

const [, script, socket] = process.argv;
if (script !== undefined && script === import.meta.filename && socket !== undefined) {
  // It ends with the test, however that ends.
  process.stdin.once("end", () => process.exit());
  process.stdin.resume();
  await serveTunnel(socket);
  process.stdout.write("ready\n");
}
