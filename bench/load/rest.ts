// Owns REST load: raw sockets that write requests made beforehand and only cut the answers apart, so that the load takes
// as little as it can of the processors it shares with what it measures. Each client waits for its answer, then asks anew.
import { connect } from "node:net";
import { connect as connectSecurely } from "node:tls";
import { buildRequest, createMessageCutter } from "./http1.ts";
import type { Meter } from "./meter.ts";
import type { LoadPlan, LoadRequest } from "./plan.ts";

/** Asks until the signal is aborted; resolves when every client has had its last answer. */
export async function runRestLoad(
  plan: LoadPlan,
  requests: readonly LoadRequest[],
  meter: Meter,
  signal: AbortSignal,
): Promise<void> {
  const bytes = requests.map((request) => buildRequest(`${plan.host}:${plan.port}`, request, plan.headers));
  let next = 0;
  const take = (): Buffer => {
    next = next + 1 < bytes.length ? next + 1 : 0;
    return bytes[next] ?? Buffer.alloc(0);
  };
  await Promise.all(Array.from({ length: plan.concurrency }, () => runClient(plan, take, meter, signal)));
}

async function runClient(plan: LoadPlan, take: () => Buffer, meter: Meter, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cutter = createMessageCutter();
  const { host, port, tls } = plan;
  const plain = connect({ host, port, noDelay: true });
  const socket = tls === undefined ? plain : connectSecurely({ ...tls, socket: plain, servername: "localhost" });
  let sentMs = 0;
  const ask = (): void => {
    if (signal.aborted) {
      socket.destroy();
      return;
    }
    sentMs = performance.now();
    socket.write(take());
  };
  socket.once(tls === undefined ? "connect" : "secureConnect", ask);
  // The TLS socket does not tell of a connection that never was.
  if (tls !== undefined) plain.once("error", (error) => socket.destroy(error));
  socket.on("data", (chunk: Buffer) => {
    try {
      for (const line of cutter.push(chunk)) {
        if (line.startsWith("HTTP/1.1 200")) meter.answered(performance.now() - sentMs);
        else meter.failed(line);
        ask();
      }
    } catch (error) {
      socket.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  });
  socket.once("error", (error) => meter.failed(error.message));
  socket.once("end", () => meter.failed("the connection was closed"));
  socket.once("close", () => resolve());
  await promise;
}
