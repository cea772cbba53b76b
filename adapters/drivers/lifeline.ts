// Owns telling one life of a model server from the next, when it does not say which it is in: by a connection that carries
// nothing. The kernel closes it when the process dies, sooner than any poll could notice.
//
//   connected --closed--> looking --accepted at once--> connected, in doubt      (closed for another reason, or a fast restart)
//                            |----refused--> down --accepted--> connected, in another life
//
// A unix socket's file says it exactly: a server makes a new one at each start.
import { stat } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { createConnection } from "node:net";
import { errorMessage } from "#core/errors.ts";
import { isGone } from "./http.ts";

export interface Lifeline extends Disposable {
  look(signal: AbortSignal): Promise<Seen>;
}

export type Seen =
  /**
   * `doubts` grows when the connection was closed and somebody still listens: this may be another process. `breaks` grows
   * with it unless the server took its leave first, as HTTP/2 has it.
   */
  | { readonly kind: "up"; readonly life: string; readonly doubts: number; readonly breaks: number }
  | { readonly kind: "dead" | "silent"; readonly reason: string };

export interface LifelineOptions {
  /** `host:port` or `unix:/path`. */
  readonly address: string;
  /** gRPC servers close a connection on which HTTP/2 does not begin. */
  readonly http2: boolean;
  /** The connection was closed. */
  readonly onClosed: () => void;
}

const connectTimeoutMs = 2_000;

interface Held {
  readonly open: boolean;
  close(): void;
}

export function createLifeline(options: LifelineOptions): Lifeline {
  const { address, onClosed } = options;
  const socketPath = address.startsWith("unix:") ? address.slice("unix:".length) : undefined;
  let held: Held | undefined;
  let life = 1;
  let doubts = 0;
  let breaks = 0;
  let leave = false;
  let disposed = false;

  /** Rejects when nobody accepts. */
  const open = async (signal: AbortSignal): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => reject(signal.reason);
    const timer = setTimeout(() => reject(new Error("no connection in time")), connectTimeoutMs);
    signal.addEventListener("abort", onAbort, { once: true });
    const made = options.http2 ? openHttp2(address, socketPath) : openSocket(address, socketPath);
    let there = false;
    made.on("error", reject);
    made.once("connect", resolve);
    made.once("close", () => {
      reject(new Error("the connection was closed"));
      if (there && !disposed) onClosed();
    });
    made.on("goaway", (code: number) => {
      leave = code === 0;
    });
    made.unref();
    try {
      await promise;
      there = true;
      held = {
        get open() {
          return !made.destroyed;
        },
        close: () => made.destroy(),
      };
    } catch (error) {
      made.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  };

  return {
    async look(signal): Promise<Seen> {
      try {
        const file = socketPath === undefined ? undefined : await stat(socketPath, { bigint: true });
        if (held?.open !== true) {
          const before = held;
          held = undefined;
          await open(signal);
          if (before !== undefined) {
            doubts += 1;
            if (!leave) breaks += 1;
          }
          leave = false;
        }
        return { kind: "up", life: file === undefined ? `${life}` : `${file.dev}:${file.ino}:${file.mtimeNs}`, doubts, breaks };
      } catch (error) {
        signal.throwIfAborted();
        const reason = errorMessage(error);
        if (!isGone(error)) return { kind: "silent", reason };
        life += 1;
        return { kind: "dead", reason };
      }
    },
    [Symbol.dispose](): void {
      disposed = true;
      held?.close();
    },
  };
}

function openSocket(address: string, socketPath: string | undefined): ReturnType<typeof createConnection> {
  if (socketPath !== undefined) return createConnection({ path: socketPath });
  const { hostname, port } = new URL(`http://${address}`);
  return createConnection({ host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) });
}

function openHttp2(address: string, socketPath: string | undefined): ReturnType<typeof connectHttp2> {
  return connectHttp2(
    socketPath === undefined ? `http://${address}` : "http://localhost",
    socketPath === undefined ? {} : { createConnection: () => createConnection({ path: socketPath }) },
  );
}
