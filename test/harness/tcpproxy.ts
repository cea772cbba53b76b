// Owns a TCP proxy for tests of the network: either direction can be stopped, so that nothing comes through and nothing
// is said of it, or all connections broken at once.
import { connect, createServer, type Socket } from "node:net";

export interface TcpProxy extends AsyncDisposable {
  /** `host:port` */
  readonly address: string;
  /** Connections since the start. */
  readonly accepted: number;
  /** `up` is from those who connect to the target. */
  stop(direction: "up" | "down"): void;
  go(): void;
  break(): void;
}

const host = "127.0.0.1";

export async function openTcpProxy(target: string): Promise<TcpProxy> {
  const port = Number(target.slice(target.lastIndexOf(":") + 1));
  const pairs = new Set<{ readonly near: Socket; readonly far: Socket }>();
  const stopped = { up: false, down: false };
  let accepted = 0;
  const server = createServer((near) => {
    accepted += 1;
    const far = connect(port, host);
    const pair = { near, far };
    pairs.add(pair);
    near.on("data", (chunk) => void far.write(chunk));
    far.on("data", (chunk) => void near.write(chunk));
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        pairs.delete(pair);
        near.destroy();
        far.destroy();
      });
    }
    apply();
  });
  function apply(): void {
    for (const { near, far } of pairs) {
      if (stopped.up) near.pause();
      else near.resume();
      if (stopped.down) far.pause();
      else far.resume();
    }
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, host, resolve);
  await promise;
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("the proxy has no port");
  const breakAll = (): void => {
    for (const { near, far } of pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  };
  return {
    address: `${host}:${address.port}`,
    get accepted() {
      return accepted;
    },
    stop(direction) {
      stopped[direction] = true;
      apply();
    },
    go() {
      stopped.up = false;
      stopped.down = false;
      apply();
    },
    break: breakAll,
    async [Symbol.asyncDispose]() {
      breakAll();
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      await closed.promise;
    },
  };
}
