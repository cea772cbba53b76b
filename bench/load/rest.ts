// Owns REST load: raw sockets that write requests made beforehand and only cut the answers apart, so that the load takes
// as little as it can of the processors it shares with what it measures. In a closed loop each client asks anew when it is
// answered; in an open one requests come due at a rate, whatever became of those before them, and wait for a free client.
import { connect } from "node:net";
import { connect as connectSecurely } from "node:tls";
import { sleep, untilAborted } from "#platform/clock.ts";
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
  const turns = plan.requestsPerSecond === undefined ? atOnce(signal) : atRate(plan.requestsPerSecond, signal);
  await Promise.all([
    turns.run(),
    ...Array.from({ length: plan.concurrency }, () => runClient(plan, turns, take, meter, signal)),
  ]);
}

/** Whose turn it is to ask: `go` is given the moment from which the answer's time counts. */
interface Turns {
  /** Called by a client that is free, once for each request. */
  wait(go: (dueMs: number) => void): void;
  /** Resolves with the signal. */
  run(): Promise<void>;
}

function atOnce(signal: AbortSignal): Turns {
  return {
    wait: (go) => go(performance.now()),
    run: () => untilAborted(signal),
  };
}

function atRate(perSecond: number, signal: AbortSignal): Turns {
  const free: ((dueMs: number) => void)[] = [];
  const due: number[] = [];
  const gapMs = 1_000 / perSecond;
  return {
    wait(go) {
      const dueMs = signal.aborted ? performance.now() : due.shift();
      if (dueMs === undefined) free.push(go);
      else go(dueMs);
    },
    async run() {
      let nextMs = performance.now();
      while (!signal.aborted) {
        const nowMs = performance.now();
        for (; nextMs <= nowMs; nextMs += gapMs) {
          const go = free.shift();
          // A request that this process is late for is not slow yet; one that finds no client free is.
          if (go === undefined) due.push(nowMs);
          else go(nowMs);
        }
        await sleep(Math.max(0, nextMs - performance.now()), signal).catch(() => undefined);
      }
      for (const go of free.splice(0)) go(performance.now());
    },
  };
}

async function runClient(plan: LoadPlan, turns: Turns, take: () => Buffer, meter: Meter, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cutter = createMessageCutter();
  const { host, port, tls } = plan;
  const plain = connect({ host, port, noDelay: true });
  const socket = tls === undefined ? plain : connectSecurely({ ...tls, socket: plain, servername: "localhost" });
  let dueMs = 0;
  const ask = (ms: number): void => {
    if (signal.aborted) {
      socket.destroy();
      return;
    }
    dueMs = ms;
    socket.write(take());
  };
  socket.once(tls === undefined ? "connect" : "secureConnect", () => turns.wait(ask));
  // The TLS socket does not tell of a connection that never was.
  if (tls !== undefined) plain.once("error", (error) => socket.destroy(error));
  socket.on("data", (chunk: Buffer) => {
    try {
      for (const line of cutter.push(chunk)) {
        if (line.startsWith("HTTP/1.1 200")) meter.answered(performance.now() - dueMs);
        else meter.failed(line);
        turns.wait(ask);
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
