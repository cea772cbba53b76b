// Owns what is said between a benchmark and its load process: the requests, one plan at a time, its result.
import { z } from "zod";

const requestSchema = z.object({ path: z.string(), body: z.string() });

/** In the file that the load process is started with: named lists of requests. A gRPC body is the message in base64. */
export const requestFileSchema = z.record(z.string(), z.array(requestSchema));

export type LoadRequest = Readonly<z.infer<typeof requestSchema>>;
export type RequestFile = Readonly<z.infer<typeof requestFileSchema>>;

export const planSchema = z.object({
  wire: z.enum(["rest", "grpc"]),
  /** Which list of the request file, in turn and from the start again. */
  requests: z.string(),
  host: z.string(),
  port: z.int(),
  /** Requests under way at any time. Each REST client has its own connection; gRPC clients share one. */
  concurrency: z.int().min(1),
  /** REST only: so many each second, evenly, however long answers take (an open loop). Without it each client asks when it has been answered. */
  requestsPerSecond: z.number().positive().optional(),
  /** Time before the measured window, for connections, caches and sampling to settle. */
  settleMs: z.number().min(0),
  measureMs: z.number().positive(),
  /** REST only: sent with every request. */
  headers: z.record(z.string(), z.string()).optional(),
  /** REST only, PEM: who is trusted, and who the clients are. */
  tls: z.object({ ca: z.string(), cert: z.string(), key: z.string() }).optional(),
  /** Processes whose processor time is read at both ends of the window. */
  watchedPids: z.array(z.int()),
  /** Also tells how it went in steps of so long. */
  stepMs: z.number().positive().optional(),
});

export type LoadPlan = Readonly<z.infer<typeof planSchema>>;

export const resultSchema = z.object({
  /** Answered as they should be, in the window. */
  requests: z.int(),
  /** All others, settling included, with a few of the reasons. */
  failed: z.int(),
  reasons: z.array(z.string()),
  seconds: z.number(),
  p50Ms: z.number(),
  p99Ms: z.number(),
  /** Times at the shares of bench/plot.ts; empty when nothing was answered. */
  quantilesMs: z.array(z.number()),
  /** Of each step: where it begins since the window did, answers, the 99th percentile of their times. */
  steps: z.array(z.object({ fromMs: z.number(), requests: z.int(), p99Ms: z.number() })),
  /** Nanoseconds, in the order of the watched processes. */
  cpuNs: z.array(z.number()),
  /** Of the load process itself. */
  ownCpuNs: z.number(),
});

export type LoadResult = Readonly<z.infer<typeof resultSchema>>;

export const replySchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("done"), result: resultSchema }),
  z.object({ kind: z.literal("broken"), reason: z.string() }),
]);

export type LoadReply = z.infer<typeof replySchema>;
