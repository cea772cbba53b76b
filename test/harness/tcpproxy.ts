// Owns a TCP proxy for tests of the network: either direction can be stopped, so that nothing comes through and nothing
// is said of it, or all connections broken at once; or one of those who connect is cut off, the others not.
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
  /** From now on whoever says `name` as it begins gets nothing through in either direction, or is broken off each time. */
  cutOff(name: string, how: "silent" | "loud"): void;
  /** Nobody is cut off any more; what was held back comes through. */
  heal(): void;
}

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
  /** What the one who connected has said first. */
  said: string;
}

const host = "127.0.0.1";
const introductionBytes = 4_096;

export async function openTcpProxy(target: string): Promise<TcpProxy> {
  const port = Number(target.slice(target.lastIndexOf(":") + 1));
  const pairs = new Set<Pair>();
  let cut: { readonly name: string; readonly how: "silent" | "loud" } | undefined;
  const stopped = { up: false, down: false };
  let accepted = 0;
  const server = createServer((near) => {
    accepted += 1;
    const far = connect(port, host);
    const pair: Pair = { near, far, said: "" };
    pairs.add(pair);
    near.on("data", (chunk: Buffer) => {
      if (pair.said.length < introductionBytes) pair.said += chunk.toString("latin1");
      // What has been read before it was known who speaks waits for the others to be let through again.
      if (isCut(pair)) {
        near.pause();
        near.unshift(chunk);
        return apply();
      }
      far.write(chunk);
    });
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
  function isCut({ said }: Pair): boolean {
    return cut !== undefined && said.includes(cut.name);
  }
  function apply(): void {
    for (const pair of pairs) {
      const { near, far } = pair;
      const silent = isCut(pair);
      if (silent && cut?.how === "loud") {
        near.resetAndDestroy();
        far.resetAndDestroy();
        continue;
      }
      if (stopped.up || silent) near.pause();
      else near.resume();
      if (stopped.down || silent) far.pause();
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
    cutOff(name, how) {
      cut = { name, how };
      apply();
    },
    heal() {
      cut = undefined;
      apply();
    },
    async [Symbol.asyncDispose]() {
      breakAll();
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      await closed.promise;
    },
  };
}
