// Owns the asking of each of many requests once, over HTTP/1.1 connections that stay open, one request at a time on each.
import { connect } from "node:net";
import type { SocketAddress } from "./addresses.ts";
import { buildRequest, createMessageCutter, type Http1Request } from "./load/http1.ts";

export interface Asked {
  /** Of each request that was answered with 200, in the order of the requests; undefined for the others. */
  readonly tookMs: readonly (number | undefined)[];
  readonly failed: number;
  /** A few of them. */
  readonly reasons: readonly string[];
}

const maxReasons = 3;

/** Each client takes the next request when it has its answer. Rejects with the signal's reason. */
export async function askEach(
  address: SocketAddress,
  requests: readonly Http1Request[],
  clients: number,
  signal: AbortSignal,
): Promise<Asked> {
  const tookMs = Array.from<number | undefined>({ length: requests.length });
  const reasons = new Set<string>();
  let next = 0;
  let failed = 0;
  const fail = (reason: string): void => {
    failed += 1;
    if (reasons.size < maxReasons) reasons.add(reason);
  };

  async function runClient(): Promise<void> {
    while (next < requests.length && !signal.aborted) await runConnection();
  }

  /** Until all is asked or the connection breaks, which fails the request that was under way. */
  async function runConnection(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const socket = connect({ ...address, noDelay: true, signal });
    const cutter = createMessageCutter();
    let at: number | undefined;
    let sentMs = 0;
    let broken = "the connection was closed";
    const ask = (): void => {
      at = next < requests.length ? next++ : undefined;
      const request = at === undefined ? undefined : requests[at];
      if (request === undefined) {
        socket.destroy();
        return;
      }
      const bytes = buildRequest(`${address.host}:${address.port}`, request);
      sentMs = performance.now();
      socket.write(bytes);
    };
    const onAnswer = (line: string): void => {
      if (at === undefined) return;
      if (line.startsWith("HTTP/1.1 200")) tookMs[at] = performance.now() - sentMs;
      else fail(line);
      at = undefined;
      ask();
    };
    socket.once("connect", ask);
    socket.on("data", (chunk: Buffer) => {
      try {
        for (const line of cutter.push(chunk)) onAnswer(line);
      } catch (error) {
        socket.destroy(error instanceof Error ? error : new Error(String(error)));
      }
    });
    socket.once("error", (error) => {
      broken = error.message;
    });
    socket.once("end", () => socket.destroy());
    socket.once("close", () => {
      if (at !== undefined) fail(broken);
      // Nobody listens: the requests that are left are not tried one by one.
      else if (next === 0) {
        next = requests.length;
        fail(broken);
      }
      resolve();
    });
    await promise;
  }

  await Promise.all(Array.from({ length: Math.min(clients, requests.length) }, runClient));
  signal.throwIfAborted();
  return { tookMs, failed, reasons: [...reasons] };
}
