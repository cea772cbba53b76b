// Owns the model server as a whole: its repository behind three listeners, opened and closed together.
// Stop: the listeners take nothing new, requests under way end within the grace, then the models are released and their threads
// end. A thread that computes on cannot be ended: it is left alone.
import { StartupError } from "#platform/lifecycle.ts";
import type { Log } from "#platform/log.ts";
import { createAdminServer, listenAdmin } from "./admin.ts";
import { type GrpcListener, listenGrpc } from "./grpc/listener.ts";
import { createGrpcServer } from "./grpc/server.ts";
import { Repository } from "./repository.ts";
import { createRestServer } from "./rest/server.ts";
import { createCounters } from "./stats.ts";
import { ThreadPool } from "./threads/pool.ts";
import { within } from "./within.ts";

export interface ModelServerOptions {
  readonly host: string;
  readonly restPort: number;
  readonly grpcPort: number;
  readonly adminSocket: string;
  readonly maxBodyBytes: number;
  /** For models that take long to create or to run; 0 keeps all in the main thread. */
  readonly threads: number;
  /** Requests that may wait for a model in such a thread. */
  readonly maxWaiting: number;
  readonly log: Log;
  /** Time for requests under way at the end; 5 s when absent. */
  readonly graceMs?: number;
}

export interface ModelServer extends AsyncDisposable {
  readonly restPort: number;
  readonly grpcPort: number;
  /** Whether a thread computes; the process cannot end in order then. */
  isComputing(): boolean;
}

/** Time for threads at the end, behind the grace: only what nobody waits for any more is still under way. */
const threadsEndMs = 500;

export async function openModelServer(options: ModelServerOptions): Promise<ModelServer> {
  const { host, log, maxBodyBytes, graceMs = 5_000 } = options;
  const counters = createCounters();
  await using opening = new AsyncDisposableStack();
  const pool = new ThreadPool(options);
  const repository = new Repository({ log, ...(options.threads > 0 ? { pool } : {}) });
  opening.defer(async () => {
    const ended = repository[Symbol.asyncDispose]().then(() => pool[Symbol.asyncDispose]());
    await within(ended, threadsEndMs);
    if (pool.isComputing) log.warn("a model computes on while the server ends");
  });

  const listeners = new AsyncDisposableStack();
  opening.defer(async () => listeners.disposeAsync());
  const rest = createRestServer({ repository, counters, maxBodyBytes });
  const grpc = createGrpcServer({ repository, counters, maxBodyBytes });
  let grpcListener: GrpcListener | undefined;
  const admin = createAdminServer({ repository, counters, log });
  // All three stop together, so that the grace is spent once. Closing takes the socket's file away, if it is this server's.
  listeners.defer(async () => {
    const late = setTimeout(() => {
      rest.server.closeAllConnections();
      admin.server.closeAllConnections();
    }, graceMs);
    // Closing ends the connections that are idle at that moment; those that finish a request later are ended here.
    const idle = setInterval(() => {
      rest.server.closeIdleConnections();
      admin.server.closeIdleConnections();
    }, 20);
    await Promise.all([rest.close(), grpcListener?.close(graceMs), admin.close()]);
    clearInterval(idle);
    clearTimeout(late);
  });

  await listenAdmin(admin, options.adminSocket);
  try {
    await rest.listen({ host, port: options.restPort, backlog: 4_096 });
  } catch (error) {
    throw new StartupError(
      `cannot listen on ${host}:${options.restPort}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  const address = rest.server.address();
  const restPort = typeof address === "object" && address !== null ? address.port : options.restPort;
  try {
    grpcListener = await listenGrpc(grpc, host, options.grpcPort);
  } catch (error) {
    throw new StartupError(
      `cannot listen on ${host}:${options.grpcPort}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  const opened = opening.move();
  return {
    restPort,
    grpcPort: grpcListener.port,
    isComputing: () => pool.isComputing,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
